"""Nodes and the server come and go under load: calls find another way, or end with an error, and never hang."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.process import answers
from integration.stack.stack import Stack
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING, NODES, need_envoy, owner
from tests.integration.kinds import more_known
from tests.integration.known.asked import asked
from tests.integration.load import steady_grpc, steady_rest
from tests.integration.raw import channel, rest, rest_client, unary

IMAGE = np.full((1, 64), 8, dtype=np.float32)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.40 known", "1.38 known"])
async def stack(
    request: pytest.FixtureRequest, repository: Path, names: list[str]
) -> AsyncIterator[Stack[EmbeddedNode]]:
    """Nodes that do not say what they hold, so that every call asks the server; or (known) all of which declare it."""
    version, *known = request.param.split()
    need_envoy(version)
    specs = [NodeSpec(name, models=frozenset(names) if known else None) for name in NODES]
    async with Stack(repository, specs, envoy=version, sections=BY_THE_RING) as running:
        yield running


def is_known(stack: Stack[EmbeddedNode]) -> bool:
    return all(node.spec.models is not None for node in stack.nodes.values())


async def on_their_way(stack: Stack[EmbeddedNode]) -> None:
    """Returns at once where calls ask the server, else once Envoy sends some by itself."""
    if is_known(stack):
        await more_known(stack.edge)


async def until(true: Callable[[dict[str, object]], bool], stack: Stack[EmbeddedNode]) -> None:
    """Returns once the server's status is so."""
    async with asyncio.timeout(60):
        while not true(await stack.edge.status()):
            await asyncio.sleep(0.02)


async def restart_server(stack: Stack[EmbeddedNode]) -> None:
    """Returns once Envoy, too, has noticed that the server is back (it looks every 0.1 s).

    Then calls are answered that say more than their model: those it never sends by itself.
    """
    await stack.edge.start_server()
    call = calls.tfs_grpc("acme-bayes", IMAGE)
    async with asyncio.timeout(60), channel(stack.edge.target) as through:
        while (await unary(through, call.method, call.message, [("tbms-key", "k")])).code != "OK":
            await asyncio.sleep(0.01)


def alive(status: dict[str, object]) -> set[str]:
    return {node["id"] for node in status["nodes"] if node["alive"]}


def known(status: dict[str, object]) -> set[str]:
    return {node["id"] for node in status["nodes"]}


async def where(stack: Stack[EmbeddedNode], names: list[str]) -> dict[str, str]:
    """The node that answers for each model, by REST and (the same) by gRPC."""
    found = {}
    async with rest_client(stack.edge.http) as client, channel(stack.edge.target) as through:
        for model in names:
            over_rest, over_grpc = calls.tfs_rest(model, IMAGE), calls.tfs_grpc(model, IMAGE)
            reply = await rest(client, over_rest.path, over_rest.body, over_rest.headers)
            answer = await unary(through, over_grpc.method, over_grpc.message)
            assert (reply.status, answer.code) == (200, "OK")
            nodes = {stack.by_address(reply.upstream).spec.id, stack.by_address(answer.upstream).spec.id}
            (found[model],) = nodes
    return found


async def test_a_node_that_dies_moves_only_its_own_models(stack: Stack[EmbeddedNode], names: list[str]) -> None:
    before = await where(stack, names)
    assert before == {model: owner(model) for model in names}
    victim = "node-b"
    over_rest = [calls.tfs_rest(model, IMAGE) for model in names]
    over_grpc = [calls.tfs_grpc(model, IMAGE) for model in names]
    async with steady_rest(stack.edge, over_rest) as rest_calls, steady_grpc(stack.edge, over_grpc) as grpc_calls:
        await rest_calls.more(50)
        await grpc_calls.more(50)
        await on_their_way(stack)
        stack.nodes[victim].kill()
        await until(lambda status: alive(status) == set(NODES) - {victim}, stack)
        detected = time.monotonic()
        await rest_calls.more(100)
        await grpc_calls.more(100)
        # Every model has a second holder, so from here on no call fails.
        assert set(rest_calls.count(detected)) == {"200"}
        assert set(grpc_calls.count(detected)) == {"OK"}
        await on_their_way(stack)
        after = await where(stack, names)
        await stack.nodes[victim].start()
        await until(lambda status: alive(status) == set(NODES), stack)
        returned = time.monotonic()
        await rest_calls.more(100)
        await grpc_calls.more(100)
        assert set(rest_calls.count(returned)) == {"200"}
        assert set(grpc_calls.count(returned)) == {"OK"}
    assert {model for model in names if after[model] != before[model]} == {
        model for model in names if before[model] == victim
    }
    assert victim not in after.values()
    assert await where(stack, names) == before


async def test_a_node_that_leaves_the_list_and_returns_loses_no_call(
    stack: Stack[EmbeddedNode], names: list[str]
) -> None:
    over_rest = [calls.v2_rest(model, IMAGE) for model in names]
    over_grpc = [calls.v2_grpc(model, IMAGE) for model in names]
    everybody = list(stack.edge.nodes)
    async with steady_rest(stack.edge, over_rest) as rest_calls, steady_grpc(stack.edge, over_grpc) as grpc_calls:
        await rest_calls.more(50)
        await on_their_way(stack)
        stack.edge.nodes = [node for node in everybody if node.id != "node-c"]
        stack.edge.write_config()
        await until(lambda status: known(status) == {"node-a", "node-b"}, stack)
        await rest_calls.more(100)
        await grpc_calls.more(100)
        without = await where(stack, names)
        stack.edge.nodes = everybody
        stack.edge.write_config()
        stack.edge.server.signal(signal.SIGHUP)
        await until(lambda status: alive(status) == set(NODES), stack)
        await rest_calls.more(100)
        await grpc_calls.more(100)
    assert set(rest_calls.count()) == {"200"}
    assert set(grpc_calls.count()) == {"OK"}
    assert without == {model: owner(model, ("node-a", "node-b")) for model in names}
    assert await where(stack, names) == {model: owner(model) for model in names}


async def test_a_wrong_configuration_changes_nothing(stack: Stack[EmbeddedNode], names: list[str]) -> None:
    text = stack.edge.config.read_text()
    try:
        wrong = stack.edge.config.with_suffix(".wrong")
        wrong.write_text(text.replace("replicas", "replica"))
        wrong.replace(stack.edge.config)
        stack.edge.server.signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            while "configuration refused" not in stack.edge.server.tail(200):
                await asyncio.sleep(0.02)
        assert "routing.replica: no such setting" in stack.edge.server.tail(200)
        assert await where(stack, names) == {model: owner(model) for model in names}
    finally:
        stack.edge.write_config()


async def test_the_server_is_killed_and_restarted_under_load(stack: Stack[EmbeddedNode], names: list[str]) -> None:
    over_rest = [calls.tfs_rest(model, IMAGE) for model in names]
    over_grpc = [calls.tfs_grpc(model, IMAGE) for model in names]
    async with steady_rest(stack.edge, over_rest) as rest_calls, steady_grpc(stack.edge, over_grpc) as grpc_calls:
        await rest_calls.more(50)
        await grpc_calls.more(50)
        await on_their_way(stack)
        if is_known(stack):
            before = -1
            while before != (before := await asked(stack.edge)):  # until the map has all of them, in both forms
                for kind in (rest_calls, grpc_calls):
                    await kind.more(2 * len(names))
        stack.edge.server.kill()
        # Plain calls go on, to any healthy node; the others wait for the server. Known ones go where they went.
        await rest_calls.more(20, "200")
        if is_known(stack):
            assert await where(stack, names) == {model: owner(model) for model in names}
        await restart_server(stack)
        restarted = time.monotonic()
        await rest_calls.more(100)
        await grpc_calls.more(100)
        assert set(grpc_calls.count(restarted)) == {"OK"}
    assert set(rest_calls.count()) == {"200"}
    assert set(grpc_calls.count()) <= ({"OK"} if is_known(stack) else {"OK", "UNAVAILABLE"})
    assert await where(stack, names) == {model: owner(model) for model in names}


async def test_without_the_server_plain_calls_pass_and_the_others_end(
    stack: Stack[EmbeddedNode], names: list[str]
) -> None:
    stack.edge.server.kill()
    try:
        async with rest_client(stack.edge.http) as client, channel(stack.edge.target) as through:
            over_rest, over_grpc = calls.tfs_rest(names[0], IMAGE), calls.tfs_grpc(names[0], IMAGE)
            reply = await rest(client, over_rest.path, over_rest.body, over_rest.headers)
            assert reply.status == 200
            answer = await unary(through, over_grpc.method, over_grpc.message, [("tbms-key", "k")], timeout=60)
            assert answer.code == "UNAVAILABLE"
    finally:
        await restart_server(stack)


async def test_sigterm_lets_calls_in_flight_finish(stack: Stack[EmbeddedNode]) -> None:
    """A gRPC call whose body has not named its model yet is in the server's hands when SIGTERM comes.

    One that says more than its model, or Envoy would wait for its body to look for it on the map.
    """
    call = calls.tfs_grpc("acme-bayes", IMAGE)
    framed = b"\0" + len(call.message).to_bytes(4, "big") + call.message
    half_sent, finish = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield framed[:3]
        half_sent.set()
        await finish.wait()
        yield framed[3:]

    headers = {"content-type": "application/grpc", "te": "trailers", "tbms-key": "k"}
    slow, quick = rest_client(stack.edge.http, http2=True), rest_client(stack.edge.http)
    async with slow, quick, asyncio.TaskGroup() as tasks:
        reply = tasks.create_task(slow.post(call.method, content=body(), headers=headers))
        await half_sent.wait()
        await until(lambda status: status["streams"] == 1, stack)
        stack.edge.server.signal(signal.SIGTERM)
        await until(lambda status: bool(status["draining"]), stack)
        assert not await answers(f"{stack.edge.admin}/readyz")(), "an edge hands nothing over"
        # A plain call that comes now does not need the server.
        late = calls.tfs_rest("acme-bayes", IMAGE)
        assert (await rest(quick, late.path, late.body, late.headers)).status == 200
        assert stack.edge.server.running
        finish.set()
    assert reply.result().status_code == 200
    assert stack.by_address(reply.result().headers["x-tbms-upstream"]).spec.id == owner("acme-bayes")
    assert len(reply.result().content) > 5
    async with asyncio.timeout(60):
        while stack.edge.server.running:
            await asyncio.sleep(0.02)
    assert await stack.edge.server.stop() == 0
    await restart_server(stack)
