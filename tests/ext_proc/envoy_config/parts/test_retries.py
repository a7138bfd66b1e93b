"""Retries: which calls are sent again, and to whom."""

import re

import pytest

from ext_proc.envoy_config import EnvoySettings
from tests.ext_proc.envoy_config.documents import Document, edge_document, manager, node_document

UNPROCESSED = {"connect-failure", "refused-stream", "reset-before-request", "retriable-headers"}
GRPC_ROUTES = ("/tensorflow.serving.PredictionService/", "/inference.GRPCInferenceService/")


def retries(document: Document, path: str, name: str = "clients") -> Document:
    """The policy of the route that a call takes."""
    (host,) = manager(document, name)["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        match = route["match"]
        if "headers" in match:  # to a node of another zone, by a header that these calls do not have
            continue
        if ("grpc" in match) is path.startswith(GRPC_ROUTES) and (
            path.startswith(match["prefix"]) if "prefix" in match else re.fullmatch(match["safe_regex"]["regex"], path)
        ):
            return route["route"].get("retry_policy", host["retry_policy"])
    raise AssertionError("no route")


@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.PredictionService/Predict",
        "/inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelMetadata",
        "/v1/models/m:predict",
        "/v1/models/m/versions/3:predict?x=1",
        "/v2/models/m/infer",
        "/v2/models/a%2Fb/versions/1/infer?x=1",
        "/v2/models/m/ready",
    ],
)
def test_a_call_that_only_reads_is_asked_again_when_its_node_dies(path: str) -> None:
    for name in ("clients", "egress"):
        policy = retries(edge_document(), path, name)
        assert set(policy["retry_on"].split(",")) == UNPROCESSED | {"reset"}
        assert policy["retriable_headers"] == [{"name": "x-tbms-elsewhere", "present_match": True}]
        policy = retries(edge_document(settings=EnvoySettings(repeat_lost=False)), path, name)
        assert set(policy["retry_on"].split(",")) == UNPROCESSED


@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.SessionService/SessionRun",
        "/inference.GRPCInferenceService/ModelStreamInfer",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/v2/models/m/generate_stream",
        "/v2/models/m/trace/setting",
        "/v2/repository/models/m/load",
        "/somebody/else",
    ],
)
def test_of_any_other_call_only_what_was_not_processed_is_tried_again(path: str) -> None:
    assert set(retries(edge_document(), path)["retry_on"].split(",")) == UNPROCESSED


def test_nodes_hear_which_try_it_is_and_clients_hear_nothing_of_it() -> None:
    for name in ("clients", "egress"):
        (host,) = manager(edge_document(), name)["route_config"]["virtual_hosts"]
        assert host["include_request_attempt_count"] is True
        assert host["response_headers_to_remove"] == ["x-tbms-elsewhere"]


def test_a_call_is_not_sent_to_the_same_model_server_twice_once_it_was_sent() -> None:
    (host,) = manager(node_document(), "models")["route_config"]["virtual_hosts"]
    assert host["retry_policy"]["retry_on"] == "connect-failure,refused-stream,reset-before-request"
    assert not [route for route in host["routes"] if "retry_policy" in route["route"]]
