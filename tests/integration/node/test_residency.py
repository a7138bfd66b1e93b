"""Two nodes that tell an edge what they hold, all real processes: who is asked, who is forgotten, who leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.sidecar import TBMS
from integration.stack.stack import Stack
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY, every_kind, more, more_known
from tests.integration.metrics import metric
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import rest_client

NAMES = tuple(f"m{number}" for number in range(6))
LOAD_MS = 300
SECTIONS = {
    "routing": {"replicas": 1, "load_floor": 1e6},
    "residency": {"silence": 1.5, "retry": 0.1, "retry_most": 1.0},
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for name in NAMES:
        write_onnx(folder, name)
        (folder / name / "tbms.json").write_text(json.dumps({"load_delay_ms": LOAD_MS}))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(shelf: Path) -> AsyncIterator[Stack[CachedNode]]:
    need_envoy("1.40")
    async with Stack(shelf, [CachedSpec("a"), CachedSpec("b")], sections=SECTIONS) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def stack(running: Stack[CachedNode]) -> Stack[CachedNode]:
    """Both nodes up, and empty."""
    await until(lambda: heard(running, "a", "b"))
    async with httpx.AsyncClient(trust_env=False, timeout=60) as admin:
        for node in running.nodes.values():
            for book in await node.books():
                await admin.post(f"{node.agent.admin}/models/{book['model']}/unload")
    await until(lambda: _nothing_is_held(running))
    return running


@pytest_asyncio.fixture(loop_scope="session")
async def http(stack: Stack[CachedNode]) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(stack.edge.http) as client:
        yield client


async def heard(stack: Stack[CachedNode], *names: str) -> bool:
    nodes = (await stack.edge.status())["nodes"]
    return {node["id"] for node in nodes if node["residency"]["heard"]} == set(names)


async def held(stack: Stack[CachedNode]) -> dict[str, Any]:
    models: dict[str, Any] = (await stack.edge.status())["models"]
    return models


async def call(http: httpx.AsyncClient, stack: Stack[CachedNode], model: str) -> str:
    """Which node answered."""
    reply = await http.post(f"/v2/models/{model}/infer", content=BODY)
    assert reply.status_code == 200, reply.text
    assert reply.json()["outputs"][0]["data"] == [2.0, 4.0]
    return stack.by_address(reply.headers["x-tbms-upstream"]).spec.id


async def tbms(*arguments: str) -> tuple[int, str]:
    """The operator's command: its exit status and what it prints."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(TBMS, *arguments, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    output, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, output.decode()


async def tell(node: CachedNode, model: str, command: str) -> None:
    status, output = await tbms(command, model, "--admin", node.agent.admin)
    words = f"{model} version 1" if command == "load" else model
    assert (status, output) == (0, f"{words}: {command} done.\n")


async def test_calls_go_to_the_holder_and_a_killed_nodes_word_is_forgotten(
    stack: Stack[CachedNode], http: httpx.AsyncClient
) -> None:
    homes = {model: await call(http, stack, model) for model in NAMES}
    assert set(homes.values()) == {"a", "b"}
    await until(lambda: _equals(stack, {model: {home: "available"} for model, home in homes.items()}))

    # What an operator loads elsewhere is called there, against the order of the ring.
    model = NAMES[0]
    other = {"a": "b", "b": "a"}[homes[model]]
    await tell(stack.nodes[other], model, "load")
    await tell(stack.nodes[homes[model]], model, "unload")
    await until(lambda: _is(stack, model, {other: "available"}))
    assert await call(http, stack, model) == other
    await tell(stack.nodes[other], model, "pin")
    admins = [node.agent.admin for node in stack.nodes.values()]
    status, table = await tbms("models", *(f"--admin={admin}" for admin in [*admins, stack.edge.admin]))
    assert status == 0
    lines = [line.split() for line in table.splitlines()]
    assert [line[:5] for line in lines if line[0] == model] == [[model, "1", "available,", "pinned", other]]
    assert (await tbms("unload", model, "--admin", stack.nodes[other].agent.admin)) == (
        1,
        f"Model '{model}' is pinned: unpin it first.\n",
    )
    assert (await tbms("load", "nobody", "--admin", stack.nodes[other].agent.admin))[0] == 7
    await tell(stack.nodes[other], model, "unpin")

    stack.nodes["b"].kill()
    await until(lambda: heard(stack, "a"))
    assert all(set(nodes) == {"a"} for nodes in (await held(stack)).values())
    assert {await call(http, stack, name) for name in NAMES} == {"a"}

    await stack.nodes["b"].start()
    await until(lambda: heard(stack, "a", "b"))


async def test_a_leaving_nodes_models_are_loaded_elsewhere_before_it_stops_and_no_call_fails(shelf: Path) -> None:
    versions = {"a": "1.36", "b": "1.40", "c": "1.38"}
    for version in versions.values():
        need_envoy(version)
    nodes = [CachedSpec(name, envoy=version, known=True) for name, version in versions.items()]
    async with Stack(shelf, nodes, sections=SECTIONS) as stack, rest_client(stack.edge.http) as http:
        for name in ("a", "b"):
            if name == "b":
                await stack.nodes["a"].start()
            await until(lambda: heard(stack, *versions))
            homes = {model: await call(http, stack, model) for model in NAMES}
            assert name in homes.values()
            others = [node.agent.admin for node in stack.nodes.values() if node.spec.id != name]
            before = [await metric(admin, "tbms_cache_cold_calls_total") for admin in others]
            async with every_kind(stack.edge, NAMES) as outcomes:
                await more(outcomes, 10)
                await more_known(stack.edge, stack.nodes[name].agent)
                assert await stack.nodes[name].agent.server.stop(grace=20) == 0
                assert name not in {await call(http, stack, model) for model in NAMES}
                await more(outcomes, 10)
                await stack.nodes[name].stop()
                await more(outcomes, 10)
                await more_known(stack.edge)
            assert {kind: set(each.count()) for kind, each in outcomes.items()} == {kind: {"OK"} for kind in outcomes}
            after = [await metric(admin, "tbms_cache_cold_calls_total") for admin in others]
            assert after == before, "loaded for the edge, not for a call that waited"


async def test_a_node_that_comes_back_takes_its_share_again(stack: Stack[CachedNode], http: httpx.AsyncClient) -> None:
    homes = {model: await call(http, stack, model) for model in NAMES}
    mine = [model for model in NAMES if homes[model] == "a"]
    stack.nodes["a"].kill()
    await until(lambda: heard(stack, "b"))
    for model in NAMES:
        assert await call(http, stack, model) == "b"
    await stack.nodes["a"].start()

    async def back() -> bool:
        models = await held(stack)
        return all(models[model].get("a") == "available" for model in mine)

    await until(back)

    async def called(model: str) -> bool:
        return await call(http, stack, model) == "a"

    for model in mine:  # not at once: Envoy's map of known calls gathers what comes
        await until(partial(called, model))


async def _equals(stack: Stack[CachedNode], expected: dict[str, dict[str, str]]) -> bool:
    return await held(stack) == expected


async def _nothing_is_held(stack: Stack[CachedNode]) -> bool:
    return not any((await held(stack)).values())


async def _is(stack: Stack[CachedNode], model: str, expected: dict[str, str]) -> bool:
    return (await held(stack)).get(model) == expected
