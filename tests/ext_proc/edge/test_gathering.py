"""Calls that an edge gathers: for whom, with whom, and how they go out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.terms import NO_TERMS, Terms
from ext_proc.broker.plan import Candidate
from ext_proc.contract import HOP_HEADER
from ext_proc.edge import gathering as module
from ext_proc.edge.gathering import EdgeGathering
from ext_proc.processing.decision import Seat
from ext_proc.upstream.client import Request, Response
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from integration.virtual_time import run
from mesh.node import Node
from tests.ext_proc.gathering.scene import ModelServer, Report, answer_of, held

HOP = HopMark("secret")
NODES = {f"{name}:1": Node(name, rest=f"{name}:1", residency="tbms:1" if name == "ours" else None) for name in
         ("a", "b", "ours")}  # fmt: skip


@dataclass
class Scene:
    gathering: EdgeGathering
    server: ModelServer

    async def ask(self, *rows: float, node: str = "a", terms: Terms = NO_TERMS) -> list[float]:
        now = asyncio.get_running_loop().time()
        return answer_of(await self.gathering.ask(held(*rows), terms, now, (f"{node}:1", "spare:1")))

    def candidate(self, candidate: Candidate, terms: Terms, node: str = "a", seat: Seat | None = None) -> object:
        call = held(1.0)
        if seat is not None:
            call = type(call)(call.head, call.call, call.chunks, seat=seat)
        request = Request("/", "POST", "", (), (), 1.0, False, (f"{node}:1",))
        return self.gathering.candidate(call, candidate, terms, request)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    model = ModelBatching(cross_request=True, max_rows=8)
    settings = BatchingSettings(models={"m": model, "other": model}, ahead=0, check_share=0)
    server = ModelServer()
    gathering = EdgeGathering(settings, server, HOP, Report(), NODES.get, asyncio.get_running_loop().time)
    async with gathering.running():
        yield Scene(gathering, server)


def marks(server: ModelServer) -> list[tuple[str, ...] | None]:
    return [HOP.read(dict(request.headers)[HOP_HEADER].decode()) for request in server.requests]


def test_a_batch_goes_to_one_node_with_the_mark() -> None:
    async def check() -> None:
        async with scene() as stage:
            calls = [stage.ask(float(number), node="ab"[number % 2]) for number in range(8)]
            assert await asyncio.gather(*calls) == [[2.0 * number] for number in range(8)]
            assert sorted(map(sorted, stage.server.batches)) == [[0.0], [1.0], [2.0, 4.0, 6.0], [3.0, 5.0, 7.0]]
            assert sorted(marks(stage.server)) == [("a:1", "spare:1")] * 2 + [("b:1", "spare:1")] * 2
            for rows, mark in zip(stage.server.batches, marks(stage.server), strict=True):
                assert mark == (f"{'ab'[int(rows[0]) % 2]}:1", "spare:1")

    run(check())


def test_which_calls_are_gathered() -> None:
    async def check() -> None:
        async with scene() as stage:
            gathering = stage.gathering
            infer = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
            assert gathering.wants(infer, NO_TERMS)
            assert gathering.wants(Call(InferenceProtocol.V2_REST, Verb.INFER, "unknown"), Terms(shares=True))
            assert not gathering.wants(Call(InferenceProtocol.V2_REST, Verb.INFER, "unknown"), NO_TERMS)
            assert not gathering.wants(Call(InferenceProtocol.V2_REST, Verb.METADATA, "m"), NO_TERMS)
            assert gathering.takes(NODES["a:1"])
            assert not gathering.takes(NODES["ours:1"])

    run(check())


def test_candidates_are_gathered_but_those_of_one_race_never_share_a_batch() -> None:
    async def check() -> None:
        async with scene() as stage:
            first = asyncio.ensure_future(stage.ask(0.0))  # the device is busy
            await asyncio.sleep(0)
            asked = [
                stage.candidate(Candidate("other"), Terms(race="r1", rank=0)),
                stage.candidate(Candidate("other"), Terms(race="r1", rank=1)),
                stage.candidate(Candidate("other"), Terms(race="r2")),
            ]
            replies = await asyncio.gather(*asked)  # type: ignore[call-overload]
            assert all(isinstance(reply, Response) and reply.ok for reply in replies)
            await first
            assert sorted(map(len, stage.server.batches)) == [1, 1, 2]
            assert {request.path for request in stage.server.requests} == {
                "/v2/models/m/infer",
                "/v2/models/other/infer",
            }

    run(check())


def test_candidates_of_sessions_and_for_our_nodes_are_not() -> None:
    async def check() -> None:
        async with scene() as stage:
            assert stage.candidate(Candidate("m"), NO_TERMS, seat=Seat("a", "")) is None
            assert stage.candidate(Candidate("m"), NO_TERMS, node="ours") is None
            assert stage.candidate(Candidate("m"), NO_TERMS, node="gone") is None
            assert stage.candidate(Candidate("unknown"), NO_TERMS) is None

    run(check())


def test_a_node_beyond_the_bound_takes_the_place_of_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NODES", 1)

    async def check() -> None:
        async with scene() as stage:
            busy = asyncio.ensure_future(stage.ask(0.0))
            await asyncio.sleep(0)
            assert stage.gathering.takes(NODES["a:1"])
            assert not stage.gathering.takes(NODES["b:1"])
            await busy
            await asyncio.sleep(0)
            assert stage.gathering.takes(NODES["b:1"])

    run(check())
