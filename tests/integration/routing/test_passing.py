"""What reaches a node: the client's call and nothing else; no header of a client's steers it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
import pytest_asyncio

from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING, need_envoy, owner
from tests.integration.raw import channel, rest, rest_client, unary
from tests.integration.recorder import Recorder, recorder

NAMES = ("first", "second")
MODELS = [f"model-{number}" for number in range(8)]
IMAGE = np.zeros((1, 64), dtype=np.float32)
# Envoy's own, on every hop.
ADDED = {"x-request-id", "x-forwarded-proto", "x-envoy-attempt-count", "transfer-encoding", "te", "host"}
ADDED |= {"x-envoy-expected-rq-timeout-ms"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recorders() -> AsyncIterator[dict[str, Recorder]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(recorder(name)) for name in NAMES}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def recorded_edge(
    request: pytest.FixtureRequest, recorders: dict[str, Recorder], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sidecar]:
    need_envoy(request.param)
    nodes = [seen.node for seen in recorders.values()]
    folder = tmp_path_factory.mktemp(f"passing-{request.param}")
    async with Sidecar(folder, nodes, envoy=request.param, sections=BY_THE_RING) as edge:
        yield edge


@pytest.fixture(autouse=True)
def forget(recorders: dict[str, Recorder]) -> None:
    for seen in recorders.values():
        seen.arrivals.clear()


def steering(recorders: dict[str, Recorder], model: str) -> dict[str, str]:
    """Headers by which a client would like to choose another node than the ring does."""
    wrong = next(seen.node for name, seen in recorders.items() if name != owner(model, NAMES))
    return {
        "x-tbms-node": wrong.rest or "",
        "x-tbms-hop": "guess",
        "x-tbms-call": "1;priority=1000",
        "x-envoy-original-dst-host": wrong.rest or "",
        "x-gateway-destination-endpoint": wrong.rest or "",
    }


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_a_client_cannot_steer_a_rest_call(
    recorded_edge: Sidecar, recorders: dict[str, Recorder], http2: bool
) -> None:
    async with rest_client(recorded_edge.http, http2=http2) as client:
        for model in MODELS:
            call = calls.tfs_rest(model, IMAGE)
            reply = await rest(client, call.path, call.body, call.headers | steering(recorders, model))
            assert reply.headers["x-recorder"] == owner(model, NAMES)
            arrival = recorders[owner(model, NAMES)].arrivals[-1]
            assert arrival.header("x-tbms-node") is None
            assert arrival.header("x-tbms-hop") is None
            assert arrival.header("x-tbms-call") is None


async def test_a_client_cannot_steer_a_grpc_call(recorded_edge: Sidecar, recorders: dict[str, Recorder]) -> None:
    async with channel(recorded_edge.target) as through:
        for model in MODELS:
            call = calls.tfs_grpc(model, IMAGE)
            reply = await unary(through, call.method, call.message, list(steering(recorders, model).items()))
            assert (reply.code, reply.message) == ("OK", call.message)
            arrival = recorders[owner(model, NAMES)].arrivals[-1]
            assert arrival.path == call.method
            assert arrival.header("x-tbms-node") is None
            assert arrival.header("x-tbms-hop") is None
            assert arrival.header("x-tbms-call") is None


@pytest.mark.parametrize("path", ["/v1/models/model-0:predict", "/v2/models/model-1/infer", "/any/thing?x=%2F..&y=1"])
async def test_a_rest_call_arrives_as_it_was_sent(
    recorded_edge: Sidecar, recorders: dict[str, Recorder], path: str
) -> None:
    body = bytes(range(256)) * 40
    headers = {"X-Mixed-Case": "Kept", "authorization": "Bearer abc", "content-type": "application/x-any"}
    async with rest_client(recorded_edge.http) as client:
        reply = await rest(client, path, body, headers)
    assert (reply.status, reply.body) == (200, body)
    (arrival,) = [arrival for seen in recorders.values() for arrival in seen.arrivals]
    assert (arrival.method, arrival.path, arrival.body) == ("POST", path, body)
    arrived = dict(arrival.headers)
    assert arrived["X-Mixed-Case"] == "Kept"
    assert arrived["Content-Length"] == str(len(body))
    sent = {"accept", "accept-encoding", "connection", "user-agent", "content-length", *map(str.lower, headers)}
    assert {name.lower() for name in arrived} - sent <= ADDED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v2"),
        ("GET", "/v2/health/ready"),
        ("GET", "/metrics"),
        ("DELETE", "/v1/models"),
        ("PUT", "/v3/models/a:predict"),
        ("OPTIONS", "/v1/other/../models/a"),
        ("POST", "/v1/models/a:explain"),
    ],
)
async def test_what_is_no_inference_passes_untouched(
    recorded_edge: Sidecar, recorders: dict[str, Recorder], method: str, path: str
) -> None:
    async with rest_client(recorded_edge.http) as client:
        # Given as a target the path is not tidied up on its way out.
        reply = await client.request(method, "/", content=b"as it is", extensions={"target": path.encode()})
    assert (reply.status_code, reply.content) == (200, b"as it is")
    (arrival,) = [arrival for seen in recorders.values() for arrival in seen.arrivals]
    assert (arrival.method, arrival.path, arrival.body) == (method, path, b"as it is")


async def test_another_grpc_service_passes_untouched(recorded_edge: Sidecar, recorders: dict[str, Recorder]) -> None:
    message = bytes(range(256)) * 100
    async with channel(recorded_edge.target) as through:
        reply = await unary(through, "/some.other.Service/Method", message, [("x-any", "thing")])
    assert (reply.code, reply.message) == ("OK", message)
    (arrival,) = [arrival for seen in recorders.values() for arrival in seen.arrivals]
    assert arrival.header("x-any") == "thing"
