"""Nodes whose publish ports no edge can reach: what they hold is learnt from their replies, on two Envoys."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb

from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.ports import free_port
from integration.stack.process import answers
from integration.stack.stack import Stack
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import channel, rest_client, unary

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}).encode()
NAMES = ("plain", "named", "unnamed", "large", "raced", "backup", "moved", "short")
REMEMBER = 1.0
SECTIONS = {
    "routing": {"replicas": 1, "load_floor": 1e6},
    "residency": {"retry": 0.05, "retry_most": 0.1, "remember": REMEMBER},
    "warm": {"enabled": False},
}
HEADER = "x-tbms-residency"


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.36"])
async def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack[CachedNode]]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp("shelf")
    for name in NAMES:
        write_onnx(folder, name)
    specs = [CachedSpec(name, envoy=request.param) for name in ("a", "b")]
    stack = Stack(folder, specs, envoy=request.param, sections=SECTIONS)
    stack.edge.nodes = [replace(node, residency=f"127.0.0.1:{free_port()}") for node in stack.edge.nodes]
    async with stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: Stack[CachedNode]) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(stack.edge.http) as client:
        yield client


async def holders(stack: Stack[CachedNode], model: str) -> dict[str, str]:
    known: dict[str, dict[str, str]] = (await stack.edge.status())["models"]
    return known.get(model, {})


def node_of(stack: Stack[CachedNode], reply: httpx.Response) -> str:
    return stack.by_address(reply.headers["x-tbms-upstream"]).spec.id


async def plain(http: httpx.AsyncClient, model: str, **headers: str) -> httpx.Response:
    reply = await http.post(f"/v2/models/{model}/infer", content=BODY, headers=headers)
    assert reply.status_code == 200, reply.text
    assert reply.json()["outputs"][0]["data"] == [2.0, 4.0]
    assert HEADER not in reply.headers
    return reply


async def framed(stack: Stack[CachedNode], model: str, metadata: Sequence[tuple[str, str]], rows: int = 1) -> str:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2]).contents.fp32_contents.extend([1.0, 2.0] * rows)
    async with channel(stack.edge.target) as through:
        reply = await unary(through, calls.V2_INFER, request.SerializeToString(), metadata)
    assert reply.code == "OK", reply.details
    assert HEADER not in dict(reply.initial)
    assert len(pb.ModelInferResponse.FromString(reply.message).raw_output_contents[0]) == 8 * rows
    assert reply.upstream is not None
    return stack.by_address(reply.upstream).spec.id


async def test_a_plain_call_tells_who_holds_its_model(stack: Stack[CachedNode], http: httpx.AsyncClient) -> None:
    node = node_of(stack, await plain(http, "plain"))
    assert await holders(stack, "plain") == {node: "available"}
    for word in ("?1", "loading", "failed"):  # a client's own is of no effect, and is not handed on
        await plain(http, "plain", **{HEADER: word})
    assert await holders(stack, "plain") == {node: "available"}


async def test_a_grpc_call_that_names_its_model_in_a_header(stack: Stack[CachedNode]) -> None:
    node = await framed(stack, "named", [("x-tbms-model", "named")])
    assert await holders(stack, "named") == {node: "available"}


@pytest.mark.parametrize(("model", "rows"), [("unnamed", 1), ("large", 500_000)])
async def test_a_grpc_call_whose_body_names_the_model(stack: Stack[CachedNode], model: str, rows: int) -> None:
    node = await framed(stack, model, [], rows)
    # Before 1.40 a filter that streams bodies cannot be told to show us replies as well.
    assert await holders(stack, model) == ({node: "available"} if stack.edge.version == "1.40" else {})


async def test_a_race_hears_it_through_its_candidates(stack: Stack[CachedNode], http: httpx.AsyncClient) -> None:
    reply = await plain(http, "raced", tloc="5000", backup="backup;est=1")
    assert reply.headers["tbms-answer"].startswith("raced;rank=0")
    (state,) = (await holders(stack, "raced")).values()
    assert state == "available"


async def test_calls_go_where_a_reply_says_that_the_model_is_for_as_long_as_it_holds(
    stack: Stack[CachedNode], http: httpx.AsyncClient
) -> None:
    home = node_of(stack, await plain(http, "moved"))
    other = {"a": "b", "b": "a"}[home]
    await until(lambda: _forgotten(stack, "moved"))
    agent = stack.nodes[home].agent
    await agent.envoy.stop()  # the next node answers, and says that it holds the model now
    try:
        assert node_of(stack, await plain(http, "moved")) == other
        assert await holders(stack, "moved") == {other: "available"}
    finally:
        starting = asyncio.create_task(agent.envoy.start(answers(f"{agent.envoy_admin}/ready")))

    async def is_there_again() -> bool:
        assert node_of(stack, await plain(http, "moved")) == other, "each reply says it again"
        return await _is_alive(stack, home)

    await until(is_there_again)
    await starting
    assert node_of(stack, await plain(http, "moved")) == other
    await until(lambda: _forgotten(stack, "moved"))
    assert node_of(stack, await plain(http, "moved")) == home


async def test_a_stream_that_comes_takes_the_place_of_replies(
    stack: Stack[CachedNode], http: httpx.AsyncClient
) -> None:
    unheard = stack.edge.nodes
    await plain(http, "short")
    stack.edge.nodes = [node.node for node in stack.nodes.values()]
    stack.edge.write_config()
    try:
        await until(lambda: _heard(stack, 2))
        held = {node.spec.id: await node.states() for node in stack.nodes.values()}
        for model in NAMES:
            truth = {node for node, states in held.items() if states.get(f"{model}:1") == "available"}
            assert set(await holders(stack, model)) == truth
    finally:
        stack.edge.nodes = unheard
        stack.edge.write_config()


async def _forgotten(stack: Stack[CachedNode], model: str) -> bool:
    return await holders(stack, model) == {}


async def _heard(stack: Stack[CachedNode], count: int) -> bool:
    nodes: list[dict[str, Any]] = (await stack.edge.status())["nodes"]
    return sum(node["residency"]["heard"] for node in nodes) == count


async def _is_alive(stack: Stack[CachedNode], name: str) -> bool:
    nodes: list[dict[str, Any]] = (await stack.edge.status())["nodes"]
    return any(node["id"] == name and node["alive"] for node in nodes)
