"""Sequences of a stateful model, and sessions of any, over two nodes with a real Triton each, called by its clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest
from tritonclient.utils import InferenceServerException

from integration.peers.triton import SUMMING, SUMMING_CONFIG, Triton, missing, triton, write_model
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from integration.stack.process import answers
from integration.stack.sidecar import Sidecar
from tests.integration.conftest import need_envoy
from tests.integration.metrics import metric
from tests.integration.node.cache_node import until

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

SUM, DOUBLE = "sum", "double"
ROUNDS = 6
Identity = int | str
# Never elsewhere but by what a test does: a busy machine may keep a probe, or the server, from answering.
PATIENT = {
    "probe": {"interval": 0.5, "timeout": 5.0, "failures": 3},
    "residency": {"silence": 10.0, "retry": 0.1, "retry_most": 0.5},
    "models": {SUM: {"stateful": True}, "prod": {"alias": SUM}},
}


@dataclass
class Fleet:
    """Two nodes that hold both models, and the Triton of each."""

    nodes: list[CachedNode] = field(default_factory=list)
    tritons: list[Triton] = field(default_factory=list)

    async def command(self, number: int, model: str, command: str) -> int:
        """One of an operator's, to the node of that number: the status of the answer."""
        admin = self.nodes[number].agent.admin
        async with aiohttp.ClientSession() as http, http.post(f"{admin}/models/{model}/{command}") as reply:
            return reply.status

    async def sessions(self) -> list[int]:
        """How many hold a model, by node."""
        return [(await node.agent.status())["sessions"] for node in self.nodes]

    async def load(self) -> None:
        for number in range(len(self.nodes)):
            for model in (SUM, DOUBLE):
                assert await self.command(number, model, "load") == 200


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    if reason := missing():
        pytest.skip(reason)
    need_envoy("1.40")
    shelf = tmp_path_factory.mktemp("shelf")
    write_model(shelf, SUM, SUMMING_CONFIG, SUMMING)
    write_model(shelf, DOUBLE)
    made = Fleet()
    async with AsyncExitStack() as stack:
        for name in ("a", "b"):
            folder = tmp_path_factory.mktemp(f"node-{name}")
            (folder / "cache" / "models").mkdir(parents=True)
            server = await stack.enter_async_context(triton(folder / "cache" / "models"))
            served = Served(server.grpc, server.rest)
            node = CachedNode(CachedSpec(name), shelf, folder, served, drain_seconds=60.0)
            made.nodes.append(await stack.enter_async_context(node))
            made.tritons.append(server)
        await made.load()
        yield made
        for node in made.nodes:
            node.kill()  # it would wait for the sequences that tests leave unended


async def edge_of(fleet: Fleet, stack: AsyncExitStack, folder: Path, version: str = "1.40", **sections: Any) -> Sidecar:
    """An edge before these nodes, which has heard them."""
    need_envoy(version)
    folder.mkdir()
    nodes = [node.node for node in fleet.nodes]
    edge = await stack.enter_async_context(Sidecar(folder, nodes, envoy=version, sections={**PATIENT, **sections}))
    await until(lambda: holds(edge, len(nodes)))
    return edge


async def holds(edge: Sidecar, nodes: int) -> bool:
    models: Mapping[str, Mapping[str, str]] = (await edge.status())["models"]
    return all(list(models.get(model, {}).values()) == ["available"] * nodes for model in (SUM, DOUBLE))


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def edge(
    request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sidecar]:
    async with AsyncExitStack() as stack:
        yield await edge_of(fleet, stack, tmp_path_factory.mktemp("edge") / request.param, request.param)


class Caller:
    """Calls over one of the two protocols; `step` is one request of a sequence, and gives the sum so far."""

    def __init__(self, library: Any, client: Any) -> None:
        self._library = library
        self._client = client

    async def step(self, identity: Identity, number: int, last: bool, model: str = SUM, **more: Any) -> float:
        tensor = self._library.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[number, 0]], dtype=np.float32))
        flags = {"sequence_id": identity, "sequence_start": number == 1, "sequence_end": last}
        reply = await self._client.infer(model, [tensor], **flags, **more)
        return float(reply.as_numpy("y")[0, 0])

    async def sequence(
        self, identity: Identity, model: str = SUM, between: Callable[[], Awaitable[object]] | None = None
    ) -> list[float]:
        """A whole sequence of ROUNDS requests: what each of them was answered."""
        sums = []
        for number in range(1, ROUNDS + 1):
            sums.append(await self.step(identity, number, number == ROUNDS, model))
            if between is not None:
                await between()
        return sums


RIGHT = [float(sum(range(1, number + 1))) for number in range(1, ROUNDS + 1)]


@dataclass
class Callers:
    rest: Caller
    grpc: Caller

    def __getitem__(self, number: int) -> Caller:
        return (self.rest, self.grpc)[number % 2]


async def callers(edge: Sidecar, stack: AsyncExitStack) -> Callers:
    rest = await stack.enter_async_context(v2_rest.InferenceServerClient(edge.target, conn_limit=200))
    grpc = await stack.enter_async_context(v2_grpc.InferenceServerClient(edge.target))
    return Callers(Caller(v2_rest, rest), Caller(v2_grpc, grpc))


def identities(count: int, salt: str) -> list[Identity]:
    """Of both kinds, in pairs, so that either kind is called over either protocol."""
    base = crc32(salt.encode())
    return [base + number if number // 2 % 2 else f"{salt}-{number}" for number in range(count)]


async def test_every_request_of_a_sequence_reaches_the_node_of_the_first(edge: Sidecar, fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        calls = await callers(edge, stack)
        names = identities(16, edge.version)
        seen: list[list[int]] = []

        async def look() -> None:
            seen.append(await fleet.sessions())

        first = calls[0].sequence(names[0], between=look)
        rest = [calls[number].sequence(name) for number, name in enumerate(names) if number]
        assert await asyncio.gather(first, *rest) == [RIGHT] * 16
        assert await fleet.sessions() == [0, 0], "each has ended"
        assert max(map(sum, seen)) > 0, "a node is told of sessions, on every Envoy"
    document = (await edge.status())["sessions"]
    assert (document["live"], document["lost"], document["idle"]) == (0, 0, 0)
    assert document["opened"] == document["ended"] >= 16


async def test_sequences_are_spread_and_an_alias_is_as_good_as_the_name(edge: Sidecar, fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        calls = await callers(edge, stack)
        names = identities(16, f"spread-{edge.version}")
        for number, name in enumerate(names):
            assert await calls[number].step(name, 1, False, "prod") == 1.0
        assert sum(await fleet.sessions()) == 16
        assert min(await fleet.sessions()) > 0
        live = await metric(edge.admin, "tbms_sessions")
        assert live == 16
        for number, name in enumerate(names):
            assert await calls[number + 1].step(name, 2, True, "prod") == 3.0, "over the other protocol"
        assert await fleet.sessions() == [0, 0]


async def test_without_its_start_a_sequence_is_refused_by_triton_itself(edge: Sidecar) -> None:
    async with AsyncExitStack() as stack:
        calls = await callers(edge, stack)
        for caller in (calls.rest, calls.grpc):
            with pytest.raises(InferenceServerException, match="must specify the START flag"):
                await caller.step("never begun", 2, True)


async def test_load_and_other_models_move_no_sequence(fleet: Fleet, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        busy = {"routing": {"replicas": 2, "load_step": 1.0, "load_floor": 1.0, "load_factor": 1.01}}
        edge = await edge_of(fleet, stack, tmp_path / "edge", **busy)
        calls = await callers(edge, stack)
        names = identities(40, "load")
        done = asyncio.Event()

        async def load(number: int) -> int:
            count = 0
            while not done.is_set():
                tensor = v2_rest.InferInput("x", [1, 2], "FP32")
                tensor.set_data_from_numpy(np.zeros((1, 2), dtype=np.float32))
                await calls.rest._client.infer(DOUBLE, [tensor])
                count += 1
            return count

        plain = [asyncio.create_task(load(number)) for number in range(4)]
        try:
            answers = await asyncio.gather(*(calls[number].sequence(name) for number, name in enumerate(names)))
        finally:
            done.set()
        assert min(await asyncio.gather(*plain)) > 0
        assert answers == [RIGHT] * 40


async def test_an_unload_waits_for_the_sequences_of_the_model(fleet: Fleet, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        edge = await edge_of(fleet, stack, tmp_path / "edge")
        calls = await callers(edge, stack)
        names = identities(8, "unload")
        for number, name in enumerate(names):
            assert await calls[number].step(name, 1, False) == 1.0
        unload = asyncio.create_task(fleet.command(0, SUM, "unload"))
        await until(lambda: _state(fleet, 0, "draining"))
        for number, name in enumerate(names):
            assert await calls[number].step(name, 2, False) == 3.0
        assert not unload.done()
        assert await calls[0].step("begun meanwhile", 1, True) == 1.0
        for number, name in enumerate(names):
            assert await calls[number].step(name, 3, True) == 6.0
        assert await unload == 200
    await fleet.load()


async def _state(fleet: Fleet, number: int, state: str) -> bool:
    return (await fleet.nodes[number].states()).get(f"{SUM}:1") == state


async def test_a_node_that_leaves_answers_its_sequences_to_their_end(fleet: Fleet, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        edge = await edge_of(fleet, stack, tmp_path / "edge")
        calls = await callers(edge, stack)
        names = identities(16, "drain")
        for number, name in enumerate(names):
            assert await calls[number].step(name, 1, False) == 1.0
        before = await fleet.sessions()
        assert min(before) > 0
        leaving = fleet.nodes[0].agent
        stop = asyncio.create_task(leaving.server.stop(60.0))
        try:
            await until(lambda: _leaving(edge, "a"))
            for step in range(2, ROUNDS):
                sums = [calls[number].step(name, step, False) for number, name in enumerate(names)]
                assert await asyncio.gather(*sums) == [RIGHT[step - 1]] * 16
            assert await fleet.sessions() == before
            fresh = identities(8, "after")
            assert [await calls[number].step(name, 1, False) for number, name in enumerate(fresh)] == [1.0] * 8
            assert await fleet.sessions() == [before[0], before[1] + 8], "none begins on a node that leaves"
            assert not stop.done()
            for number, name in enumerate(names):
                assert await calls[number].step(name, ROUNDS, True) == RIGHT[-1]
            for number, name in enumerate(fresh):
                assert await calls[number].step(name, 2, True) == 3.0
            assert await stop == 0, "it has gone by itself, well before its sequences are idle"
        finally:
            await stop
            await leaving.server.start(answers(f"{leaving.admin}/readyz"))


async def _leaving(edge: Sidecar, name: str) -> bool:
    nodes = (await edge.status())["nodes"]
    return any(node["id"] == name and node["residency"]["leaving"] for node in nodes)


class Web:
    """REST calls with headers of their own; gives the status, the node that answered, and `tbms-answer`."""

    def __init__(self, edge: Sidecar, http: aiohttp.ClientSession) -> None:
        self._url = f"{edge.http}/v2/models/{DOUBLE}/infer"
        self._http = http

    async def call(self, **headers: str) -> tuple[int, str | None, str | None]:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.post(self._url, json=body, headers=sent) as reply:
            await reply.read()
            return reply.status, reply.headers.get("x-tbms-upstream"), reply.headers.get("tbms-answer")


async def test_a_session_of_any_model_keeps_its_node(edge: Sidecar) -> None:
    async with AsyncExitStack() as stack:
        web = Web(edge, await stack.enter_async_context(aiohttp.ClientSession()))
        grpc = await stack.enter_async_context(v2_grpc.InferenceServerClient(edge.target))
        tensor = v2_grpc.InferInput("x", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 2), dtype=np.float32))
        homes = {}
        for number in range(12):
            name = f'"chat-{number}"'
            nodes = {(await web.call(tbms_session=name))[1] for _ in range(4)}
            await grpc.infer(DOUBLE, [tensor], headers={"tbms-session": name})
            status, _, answer = await web.call(tbms_session=name, tloc="20000", backup="nobody;est=1")
            assert status == 200
            assert answer is not None
            assert answer.startswith(f"{DOUBLE};rank=0;"), answer
            (homes[name],) = nodes
            assert homes[name] in answer, "the limit's one candidate goes there, too"
            assert (await web.call(tbms_session=f"{name};end"))[1] == homes[name]
        assert len(set(homes.values())) == 2
        assert (await web.call(tbms_session='"unclosed'))[0] == 400
        with pytest.raises(InferenceServerException, match="Header tbms-session: "):
            await grpc.infer(DOUBLE, [tensor], headers={"tbms-session": "(a b)"})


@pytest.mark.parametrize("version", ["1.40", "1.36"])
async def test_no_other_node_is_asked_for_a_session_of_a_node_that_is_gone(
    fleet: Fleet, tmp_path: Path, version: str
) -> None:
    async with AsyncExitStack() as stack:
        # Neither the edge nor its Envoy finds out during the test.
        blind = {"probe": {"enabled": False}, "envoy": {"health_seconds": 0.0}}
        edge = await edge_of(fleet, stack, tmp_path / "edge", version, **blind)
        web = Web(edge, await stack.enter_async_context(aiohttp.ClientSession()))
        sessions = [f"s{number}" for number in range(12)]
        homes = {name: (await web.call(tbms_session=name))[1] for name in sessions}
        gone = fleet.nodes[0].agent
        gone.envoy.kill()
        try:
            for name in sessions:
                there = homes[name] == gone.target
                for _ in range(3):
                    assert (await web.call(tbms_session=name))[0] == (503 if there else 200)
                status, _, _ = await web.call(tbms_session=name, tloc="20000")
                assert status == (503 if there else 200)
            assert {gone.target} < set(homes.values())
            for _ in range(8):
                assert (await web.call())[0] == 200, "a plain call goes on to the other node"
        finally:
            await gone.envoy.start(answers(f"{gone.envoy_admin}/ready"))
        for name in sessions:
            assert await web.call(tbms_session=f"{name};end") == (200, homes[name], None)
        assert await fleet.sessions() == [0, 0]


async def test_the_sequences_of_a_node_that_died_have_to_begin_again(fleet: Fleet, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        probing = {"probe": {"interval": 0.1, "timeout": 5.0, "failures": 2}}
        edge = await edge_of(fleet, stack, tmp_path / "edge", **probing)
        calls = await callers(edge, stack)
        names = identities(16, "death")
        for number, name in enumerate(names):
            assert await calls[number].step(name, 1, False) == 1.0
        held = await fleet.sessions()
        gone = fleet.nodes[0].agent
        gone.envoy.kill()
        try:
            await until(lambda: _dead(edge, "a"))
            told = await asyncio.gather(
                *(calls[number].step(name, 2, False) for number, name in enumerate(names)), return_exceptions=True
            )
            refused = [each for each in told if isinstance(each, InferenceServerException)]
            assert len(refused) == held[0]
            assert all("must specify the START flag" in str(each) for each in refused)
            assert [each for each in told if each not in refused] == [3.0] * held[1]
            assert (await edge.status())["sessions"]["lost"] == held[0]
            assert await asyncio.gather(*(calls[n].sequence(name) for n, name in enumerate(names))) == [RIGHT] * 16
        finally:
            await gone.envoy.start(answers(f"{gone.envoy_admin}/ready"))


async def _dead(edge: Sidecar, name: str) -> bool:
    return any(node["id"] == name and not node["alive"] for node in (await edge.status())["nodes"])
