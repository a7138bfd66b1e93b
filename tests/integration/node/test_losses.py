"""Three nodes under load, all real processes: what dies loses no call that a second node can answer, and what is hot
grows."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.stack import Stack
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY, every_kind, more, more_known
from tests.integration.load import steady
from tests.integration.metrics import metric
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import rest_client

NAMES = tuple(f"m{number}" for number in range(6))
ANSWER_MS, DEADLY_MS, LOAD_MS = 30, 1500, 400
"""An inference takes a while, so that calls are under way whenever something dies."""
SECTIONS = {
    "routing": {
        "replicas": 1,
        "max_replicas": 3,
        "load_floor": 1e6,
        "load_step": 1.0,
        "demand_seconds": 1.0,
        "call_seconds": 0.1,
    },
    "residency": {"silence": 1.5, "retry": 0.1, "retry_most": 0.5},
    "warm": {"replica_load": 1.0},  # 10 calls a second
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    settings = {name: {"delay_ms": ANSWER_MS} for name in NAMES}
    settings |= {"deadly": {"delay_ms": DEADLY_MS}, "hot": {"load_delay_ms": LOAD_MS}}
    for name, given in settings.items():
        write_onnx(folder, name)
        (folder / name / "tbms.json").write_text(json.dumps(given))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(shelf: Path) -> AsyncIterator[Stack[CachedNode]]:
    versions = {"a": "1.40", "b": "1.36", "c": "1.38"}
    for version in versions.values():
        need_envoy(version)
    nodes = [CachedSpec(name, envoy=version, known=True) for name, version in versions.items()]
    async with Stack(shelf, nodes, sections=SECTIONS) as running:
        yield running


async def hold(stack: Stack[CachedNode], models: Iterable[str], nodes: Iterable[str]) -> None:
    """Returns once these nodes hold these models, and the edge knows."""
    wanted = [(stack.nodes[node], model) for node in nodes for model in models]
    async with httpx.AsyncClient(trust_env=False, timeout=60) as admin:
        replies = [admin.post(f"{node.agent.admin}/models/{model}/load") for node, model in wanted]
        assert {reply.status_code for reply in await asyncio.gather(*replies)} == {200}

    async def known() -> bool:
        held = (await stack.edge.status())["models"]
        return all(held.get(model, {}).get(node.spec.id) == "available" for node, model in wanted)

    await until(known)


async def crash(node: CachedNode, part: str) -> Callable[[], Awaitable[None]]:
    """Kills it, or a part of it, with -9. Returns what starts it again."""
    assert node.models is not None
    if part == "agent":
        node.agent.server.kill()
        return node.agent.start_server
    if part == "model server":
        node.models.kill()
        return node.models.start
    node.kill()
    return node.start


@pytest.mark.parametrize(
    ("name", "part"),
    [("a", "node"), ("a", "agent"), ("a", "model server"), ("b", "agent"), ("b", "model server")],
    ids=["node", "agent-1.40", "model server-1.40", "agent-1.36", "model server-1.36"],
)
async def test_no_call_is_lost(stack: Stack[CachedNode], name: str, part: str) -> None:
    await hold(stack, NAMES, ("a", "b"))
    survivor = stack.nodes["b" if name == "a" else "a"].agent
    async with every_kind(stack.edge, NAMES) as outcomes:
        await more(outcomes, 10)
        await more_known(stack.edge, stack.nodes[name].agent)
        start_again = await crash(stack.nodes[name], part)
        await more(outcomes, 20)
        await more_known(stack.edge, survivor)
        await start_again()
        await more(outcomes, 20)
        await more_known(stack.edge, stack.nodes[name].agent)
    assert {kind: set(each.count()) for kind, each in outcomes.items()} == {kind: {"OK"} for kind in outcomes}


async def test_a_call_that_brings_model_servers_down_takes_two_with_it(stack: Stack[CachedNode]) -> None:
    await hold(stack, ["deadly"], stack.nodes)
    killed: list[CachedNode] = []

    async def another_has_it() -> bool:
        for node in stack.nodes.values():
            if node not in killed and any(book["in_flight"] for book in await node.books()):
                killed.append(node)
                return True
        return False

    async with rest_client(stack.edge.http) as http:
        reply = asyncio.create_task(http.post("/v2/models/deadly/infer", content=BODY))
        for _ in range(2):
            await until(another_has_it)
            assert killed[-1].models is not None
            killed[-1].models.kill()
        assert (await reply).status_code == 503
        assert "x-tbms-elsewhere" not in (await reply).headers
    await asyncio.gather(*(node.models.start() for node in killed if node.models is not None))


async def test_a_hot_model_is_warm_on_more_nodes_before_calls_go_there(stack: Stack[CachedNode]) -> None:
    async with rest_client(stack.edge.http) as http:
        answered: set[str] = set()

        async def call(_: int = 0) -> str:
            reply = await http.post("/v2/models/hot/infer", content=BODY)
            answered.add(reply.headers.get("x-tbms-upstream", ""))
            return str(reply.status_code)

        assert await call() == "200"
        assert len(answered) == 1
        before = [await metric(node.agent.admin, "tbms_cache_cold_calls_total") for node in stack.nodes.values()]
        async with steady(call, workers=16) as outcomes:
            await until(lambda: len(answered) == 3)
        assert set(outcomes.count()) == {"200"}
        after = [await metric(node.agent.admin, "tbms_cache_cold_calls_total") for node in stack.nodes.values()]
        assert after == before, "no call has waited for a load"
        assert await metric(stack.edge.admin, "tbms_models_widened") == 1

        async def spread_no_more() -> bool:
            return await metric(stack.edge.admin, "tbms_models_widened") == 0

        async def at_one_node_again() -> bool:
            answered.clear()
            for _ in range(5):
                assert await call() == "200"
            return len(answered) == 1

        await until(spread_no_more)
        await until(at_one_node_again)  # Envoy may know the wider spread for a moment more
