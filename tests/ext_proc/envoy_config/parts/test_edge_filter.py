"""The edge's filter: which branch the matcher chooses by headers, and how ext_proc is configured there."""

import pytest

from ext_proc.envoy_config import EnvoyLimits, EnvoySettings
from ext_proc.envoy_config.parts.filter import edge_filter
from ext_proc.envoy_config.settings import FilterSettings, ServerTls
from tests.ext_proc.envoy_config.documents import VERSIONS, chosen, edge_document, everything, manager

GRPC = {"content-type": "application/grpc"}
JSON = {"content-type": "application/json"}
REST_PATH = {":path": "/v1/models/m:predict"}
PREDICT = {":path": "/tensorflow.serving.PredictionService/Predict"}
INFER = {":path": "/inference.GRPCInferenceService/ModelInfer"}
NAMED = {"x-tbms-model": "m"}
SESSION = {"tbms-session": "chat-9"}


# headers -> the branch on 1.40, on 1.38, on 1.36
CALLS: list[tuple[dict[str, str], tuple[str, str, str]]] = [
    ({**JSON, **REST_PATH}, ("open", "open", "open")),
    (REST_PATH, ("open", "open", "open")),
    ({**GRPC, **PREDICT}, ("closed", "stream", "stream")),
    ({**GRPC, **INFER}, ("closed", "stream", "stream")),
    ({"content-type": "application/grpc+proto", **INFER}, ("closed", "stream", "stream")),
    ({"content-type": "application/grpc;charset=utf-8", **INFER}, ("closed", "stream", "stream")),
    # Another framing: neither its body nor that of a longer name is gRPC's.
    ({"content-type": "application/grpc-web+proto", **PREDICT}, ("open", "open", "open")),
    ({"content-type": "application/grpcish", **INFER}, ("open", "open", "open")),
    ({"content-type": "application/grpc-web", **PREDICT, "tloc": "50"}, ("closed", "stream", "buffer")),
    ({**GRPC, **PREDICT, **NAMED}, ("open", "open", "open")),
    # Calls that name no model: other services, and questions about the server itself.
    ({**GRPC, ":path": "/grpc.health.v1.Health/Check"}, ("open", "open", "open")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/ServerLive"}, ("open", "open", "open")),
    # A time limit.
    ({**JSON, **REST_PATH, "tloc": "50"}, ("closed", "stream", "buffer")),
    ({**JSON, **REST_PATH, "tloc": ""}, ("closed", "stream", "buffer")),
    ({**GRPC, **PREDICT, **NAMED, "tloc": "50"}, ("closed", "stream", "stream")),
    # The server's own candidate calls.
    ({**GRPC, **PREDICT, **NAMED, "tloc": "50", "x-tbms-hop": "s"}, ("open", "open", "open")),
    ({**GRPC, **PREDICT, "x-tbms-hop": "s"}, ("closed", "stream", "stream")),
    # Models with backups in the configuration.
    ({**JSON, ":path": "/v1/models/big one:predict"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v1/models/big%20one:predict"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v1/models/x.y/versions/3:classify?a=b"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v2/models/x.y/infer"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v2/models/x.y/versions/1/infer"}, ("closed", "stream", "buffer")),
    ({**GRPC, **PREDICT, "x-tbms-model": "x.y"}, ("closed", "stream", "stream")),
    ({**GRPC, **PREDICT, "x-tbms-model": "x.y/versions/3"}, ("closed", "stream", "stream")),
    ({**GRPC, **PREDICT, "x-tbms-model": "x.y/labels/a%20b"}, ("closed", "stream", "stream")),
    ({**GRPC, **PREDICT, "x-tbms-model": "x.y/z"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/xzy:predict"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/x.yy:predict"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/x.y"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/x.y/metadata"}, ("open", "open", "open")),
    # Sessions: without the server nobody knows their node.
    ({**JSON, **REST_PATH, **SESSION}, ("closed", "closed", "closed")),
    ({**GRPC, **PREDICT, **NAMED, **SESSION}, ("closed", "closed", "closed")),
    ({**GRPC, **INFER, **SESSION}, ("closed", "stream", "stream")),
    ({**JSON, **REST_PATH, **SESSION, "tloc": "50"}, ("closed", "stream", "buffer")),
    ({**GRPC, **INFER, **NAMED, **SESSION, "x-tbms-hop": "s"}, ("open", "open", "open")),
    # What would change a node must not reach it while the server is away.
    ({**JSON, ":path": "/v2/repository/models/m/unload"}, ("closed", "closed", "closed")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/RepositoryModelLoad"}, ("closed", "closed", "closed")),
    ({**GRPC, ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"}, ("closed", "closed", "closed")),
    (
        {**GRPC, **NAMED, "x-tbms-hop": "s", ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"},
        ("closed", "closed", "closed"),
    ),
]


@pytest.mark.parametrize("column", range(3), ids=["1.40", "1.38", "1.36"])
def test_headers_choose_how_the_conversation_is_held(column: int) -> None:
    document = edge_document(EnvoySettings(body_models=("big one", "x.y")), ("1.40", "1.38", "1.36")[column])
    for headers, ways in CALLS:
        assert chosen(document, headers)["branch"] == ways[column], headers
        assert chosen(document, headers, "egress")["branch"] == ways[column], headers


@pytest.mark.parametrize("version", VERSIONS)
def test_only_calls_that_headers_name_pass_without_the_server(version: str) -> None:
    document = edge_document(EnvoySettings(body_models=("x.y",)), version)
    for headers, _ in CALLS:
        processor = chosen(document, headers)
        if processor["branch"] == "open":
            assert processor["failure_mode_allow"] is True
            assert "status_on_error" not in processor
        else:
            assert "failure_mode_allow" not in processor
            assert processor["status_on_error"] == {"code": "ServiceUnavailable"}


@pytest.mark.parametrize(
    ("version", "headers", "mode", "override"),
    [
        ("1.40", {**GRPC, **PREDICT}, "NONE", True),
        ("1.40", REST_PATH, "NONE", True),
        ("1.38", {**GRPC, **PREDICT}, "FULL_DUPLEX_STREAMED", False),
        ("1.38", REST_PATH, "NONE", True),  # to hear of a reply's headers
        ("1.36", {**GRPC, **PREDICT}, "FULL_DUPLEX_STREAMED", False),
        ("1.36", {**JSON, **REST_PATH, "tloc": "50"}, "BUFFERED", False),
    ],
)
def test_the_body_mode_tells_the_server_which_conversation_holds(
    version: str, headers: dict[str, str], mode: str, override: bool
) -> None:
    processor = chosen(edge_document(version=version), headers)
    assert processor["processing_mode"].get("request_body_mode", "NONE") == mode
    assert processor.get("allow_mode_override", False) is override
    assert processor["processing_mode"]["request_trailer_mode"] == ("SEND" if "DUPLEX" in mode else "SKIP")
    told = processor["grpc_service"]["envoy_grpc"].get("authority")
    assert told == (None if version == "1.40" else f"tbms-envoy-{version}")


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_that_may_be_raced_tell_when_they_came(version: str) -> None:
    document = edge_document(EnvoySettings(body_models=("x.y",)), version)
    for headers in ({**GRPC, **PREDICT}, {**REST_PATH, "tloc": "50"}, {**JSON, ":path": "/v1/models/x.y:predict"}):
        assert chosen(document, headers)["request_attributes"] == ["request.time"]
    for headers in (REST_PATH, {**GRPC, **PREDICT, **NAMED}, {**GRPC, **PREDICT, **NAMED, "x-tbms-hop": "s"}):
        assert "request_attributes" not in chosen(document, headers)
    assert "request_attributes" not in chosen(edge_document(version=version), {**GRPC, **PREDICT})


def test_the_clock_of_another_machine_is_not_asked_for() -> None:
    tls = ServerTls(ca="/ca.pem", certificate="/cert.pem", key="/key.pem", name="tbms")
    document = edge_document(EnvoySettings(server_tls=tls))
    assert "request_attributes" not in chosen(document, {**REST_PATH, "tloc": "50"})


def test_a_buffered_call_may_be_held_as_long_as_the_longest_limit() -> None:
    settings = EnvoySettings(limits=EnvoyLimits(longest_tloc_seconds=100))
    document = edge_document(settings, "1.36")
    assert chosen(document, {**REST_PATH, "tloc": "50"})["message_timeout"] == "110s"
    assert manager(document)["stream_idle_timeout"] == "130s"


def test_responses_are_watched_only_on_demand() -> None:
    for watch, mode in ((False, "SKIP"), (True, "SEND")):
        document = edge_document(EnvoySettings(watch_responses=watch))
        assert chosen(document, REST_PATH)["processing_mode"]["response_header_mode"] == mode


def test_of_envoys_own_headers_the_server_may_set_the_time_limit_and_the_number_of_tries() -> None:
    rules = [entry["mutation_rules"] for entry in everything(edge_document()) if "mutation_rules" in entry]
    assert rules
    own = {"allow_expression": {"regex": "x-envoy-upstream-rq-timeout-ms|x-envoy-max-retries"}}
    assert all(entry == own for entry in rules)


def test_the_filter_of_a_mesh_is_that_of_a_stand_alone_envoy() -> None:
    for version in VERSIONS:
        mesh = edge_filter(FilterSettings(body_models=("x.y",), server_wait_seconds=3), version)
        assert mesh == edge_filter(EnvoySettings(body_models=("x.y",), server_wait_seconds=3), version)
