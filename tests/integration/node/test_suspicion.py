"""A model server that lacks what it should hold is noticed by the first call that fails, long before the next poll."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb

from integration.stack.cached_node import CachedNode, CachedSpec
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import channel, rest_client, unary

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}).encode()
POLL_SECONDS = 20.0
"""Much more than the tests take: no poll helps them. A suspicion is looked into within a tenth of it."""

Call = Callable[[CachedNode, httpx.AsyncClient], Awaitable[str]]


@pytest_asyncio.fixture(loop_scope="session")
async def node(tmp_path: Path) -> AsyncIterator[CachedNode]:
    need_envoy("1.40")
    shelf = tmp_path / "shelf"
    write_onnx(shelf, "m")
    spec = CachedSpec("node", cache={"poll_seconds": POLL_SECONDS})
    async with CachedNode(spec, shelf, tmp_path / "node") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(node: CachedNode) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(node.agent.http) as client:
        yield client


async def rest(node: CachedNode, http: httpx.AsyncClient) -> str:
    return str((await http.post("/v2/models/m/infer", content=BODY)).status_code)


async def grpc(node: CachedNode, http: httpx.AsyncClient) -> str:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, 2.0])
    async with channel(node.agent.target) as through:
        return (await unary(through, calls.V2_INFER, request.SerializeToString(), [])).code


@pytest.mark.parametrize(("call", "missing", "fine"), [(rest, "404", "200"), (grpc, "NOT_FOUND", "OK")])
async def test_a_model_that_somebody_else_unloaded_is_loaded_again(
    node: CachedNode, http: httpx.AsyncClient, call: Call, missing: str, fine: str
) -> None:
    assert await call(node, http) == fine
    async with httpx.AsyncClient(base_url=f"http://{node.served.rest}") as server:
        assert (await server.post("/v2/repository/models/m/unload")).status_code == 200
    assert await call(node, http) == missing

    async def is_back() -> bool:
        return await call(node, http) == fine

    await until(is_back)
