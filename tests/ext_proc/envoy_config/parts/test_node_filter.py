"""The node's filter: which branch the matcher chooses by headers, and what passes without the server."""

import pytest

from tests.ext_proc.envoy_config.documents import VERSIONS, Document, chosen, manager, node_document

GRPC = {"content-type": "application/grpc"}
PREDICT = {":path": "/tensorflow.serving.PredictionService/Predict"}
INFER = {":path": "/inference.GRPCInferenceService/ModelInfer"}
STREAM_INFER = {":path": "/inference.GRPCInferenceService/ModelStreamInfer"}

# headers -> the branch on 1.40, and before
CALLS: list[tuple[dict[str, str], tuple[str, str]]] = [
    ({":path": "/v1/models/m:predict", "content-type": "application/json"}, ("open", "open")),
    ({":path": "/v2/models/m/ready"}, ("open", "open")),
    ({":path": "/v2/models/m/infer", "tloc": "50"}, ("open", "open")),
    ({**GRPC, **PREDICT}, ("open", "stream")),
    ({**GRPC, **INFER}, ("open", "stream")),
    ({**GRPC, **STREAM_INFER}, ("open", "stream")),
    ({**GRPC, **PREDICT, "x-tbms-model": "m"}, ("open", "open")),
    ({**GRPC, ":path": "/grpc.health.v1.Health/Check"}, ("open", "open")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/ServerLive"}, ("open", "open")),
    ({":path": "/v2/repository/models/m/unload"}, ("closed", "closed")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/RepositoryModelLoad"}, ("closed", "closed")),
    ({**GRPC, ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"}, ("closed", "closed")),
]


def choice(version: str, headers: dict[str, str]) -> Document:
    return chosen(node_document(version), headers, "models")


@pytest.mark.parametrize("version", VERSIONS)
def test_headers_choose_how_the_conversation_is_held(version: str) -> None:
    for headers, (newest, older) in CALLS:
        assert choice(version, headers)["branch"] == (newest if version == "1.40" else older), headers


@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_that_may_use_a_model_is_followed_to_its_end(version: str) -> None:
    for headers, _ in CALLS:
        processor = choice(version, headers)
        mode = processor["processing_mode"]
        if processor["branch"] == "closed":
            assert mode["response_header_mode"] == "SKIP"
            continue
        assert (mode["response_header_mode"], mode["response_trailer_mode"]) == ("SEND", "SEND")
        streamed = processor["branch"] == "stream"
        assert mode.get("request_body_mode", "NONE") == ("FULL_DUPLEX_STREAMED" if streamed else "NONE")
        assert processor.get("allow_mode_override", False) is (version == "1.40")


@pytest.mark.parametrize("version", VERSIONS)
def test_without_the_server_calls_pass_where_this_envoy_can_let_them(version: str) -> None:
    for headers, _ in CALLS:
        processor = choice(version, headers)
        assert processor.get("failure_mode_allow", False) is (processor["branch"] == "open")
        # A call that can pass no more when the server is lost, since its body was streamed, is UNAVAILABLE too.
        assert processor["status_on_error"] == {"code": "ServiceUnavailable"}


def test_a_call_may_wait_for_its_load() -> None:
    short, long = node_document(hold_seconds=20.0), node_document(hold_seconds=5000.0)
    headers = {":path": "/v2/models/m/infer"}
    assert chosen(short, headers, "models")["message_timeout"] == "30s"
    assert chosen(long, headers, "models")["message_timeout"] == "5010s"
    assert manager(short, "models")["stream_idle_timeout"] == "630s"
    assert manager(long, "models")["stream_idle_timeout"] == "5030s"
    for document in (short, long):
        (host,) = manager(document, "models")["route_config"]["virtual_hosts"]
        assert {route["route"]["timeout"] for route in host["routes"]} == {"0s"}
