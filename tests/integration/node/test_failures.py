"""A node's server or model server is killed: what was held, what comes meanwhile, and what follows."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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
LOAD_MS, ANSWER_MS = 1200, 1000


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("first", "second", "late", "resident", "lazy"):
        write_onnx(folder, name)
    for name in ("first", "second", "late"):
        (folder / name / "tbms.json").write_text(json.dumps({"load_delay_ms": LOAD_MS}))
    (folder / "lazy" / "tbms.json").write_text(json.dumps({"delay_ms": ANSWER_MS}))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38"])
async def node(
    request: pytest.FixtureRequest, shelf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CachedNode]:
    need_envoy(request.param)
    spec = CachedSpec("node", envoy=request.param)
    async with CachedNode(spec, shelf, tmp_path_factory.mktemp(f"node-{request.param}")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(node: CachedNode) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(node.agent.http) as client:
        yield client


async def plain(http: httpx.AsyncClient, model: str) -> int:
    return (await http.post(f"/v2/models/{model}/infer", content=BODY)).status_code


async def framed(node: CachedNode, model: str, named: bool) -> str:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.0, 2.0])
    metadata = [("x-tbms-model", model)] if named else []
    async with channel(node.agent.target) as through:
        return (await unary(through, calls.V2_INFER, request.SerializeToString(), metadata)).code


def all_kinds(node: CachedNode, http: httpx.AsyncClient, model: str) -> list[asyncio.Task[Any]]:
    kinds = (plain(http, model), framed(node, model, True), framed(node, model, False))
    return [asyncio.create_task(kind) for kind in kinds]


async def loading(node: CachedNode, model: str) -> None:
    async def is_loading() -> bool:
        return any(
            book["model"] == model and book["state"] == "loading" and book["waiting"] == 3
            for book in await node.books()
        )

    await until(is_loading)


async def test_a_held_call_is_answered_at_its_limit_and_the_load_goes_on(
    node: CachedNode, http: httpx.AsyncClient
) -> None:
    reply = await http.post("/v2/models/late/infer", content=BODY, headers={"tloc": "200"})
    assert (reply.status_code, reply.json()) == (
        504,
        {"error": "Model 'late' was not loaded within the call's limit of 200 ms."},
    )
    assert await plain(http, "late") == 200
    (book,) = [book for book in await node.books() if book["model"] == "late"]
    assert book["in_flight"] == 0


async def test_the_model_server_is_killed_in_the_middle_of_a_load(node: CachedNode, http: httpx.AsyncClient) -> None:
    assert await plain(http, "resident") == 200
    held = all_kinds(node, http, "first")
    await loading(node, "first")
    assert node.models is not None
    node.models.kill()
    await node.models.start()
    assert await asyncio.gather(*held) == [200, "OK", "OK"]

    async def is_back() -> bool:
        return (await node.states()).get("resident:1") == "available"

    await until(is_back)
    assert await plain(http, "resident") == 200


async def test_the_server_is_killed_in_the_middle_of_a_load(node: CachedNode, http: httpx.AsyncClient) -> None:
    held = all_kinds(node, http, "second")
    await loading(node, "second")
    node.agent.server.kill()
    await node.agent.start_server()
    # Envoy asks the new process again. Only an override is not asked for twice, so that its call ends.
    assert await asyncio.gather(*held) == [200, "OK", "UNAVAILABLE" if node.spec.envoy == "1.40" else "OK"]
    assert await asyncio.gather(*all_kinds(node, http, "second")) == [200, "OK", "OK"]
    for book in await node.books():
        assert (book["in_flight"], book["waiting"]) == (0, 0)


async def test_without_the_server_resident_models_answer(node: CachedNode, http: httpx.AsyncClient) -> None:
    assert await plain(http, "resident") == 200
    assert await plain(http, "lazy") == 200
    in_flight = all_kinds(node, http, "lazy")

    async def all_in_flight() -> bool:
        return any(book["model"] == "lazy" and book["in_flight"] == 3 for book in await node.books())

    await until(all_in_flight)
    node.agent.server.kill()
    try:
        calls_now = all_kinds(node, http, "resident")
        control = http.post("/v2/repository/models/resident/unload")
        assert (await control).status_code == 503, "nobody else would refuse it"
        # Calls pass if this Envoy can let them; a body that is streamed cannot go on by itself.
        unnamed = "OK" if node.spec.envoy == "1.40" else "UNAVAILABLE"
        assert await asyncio.gather(*calls_now) == [200, "OK", unnamed]
        assert await asyncio.gather(*in_flight) == [200, "OK", "UNAVAILABLE"]
    finally:
        await node.agent.start_server()
