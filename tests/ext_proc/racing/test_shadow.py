"""Copies go their own way: they cost the call nothing, are bounded, and end with the process."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from ext_proc.broker.plan import Candidate, Plan
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.shadow import MOST, MOST_BYTES, Shadows
from ext_proc.upstream.client import UpstreamError
from ext_proc.upstream.hop_mark import HopMark
from integration.virtual_time import run
from tests.ext_proc.racing.scene import LIMIT, Nodes, Script, Scripted, heard, held, plan, rest_reply


@dataclass
class Stage:
    shadows: Shadows
    upstream: Scripted
    nodes: Nodes

    def count(self, outcome: str) -> float:
        return self.shadows.copies.counts[outcome,]


def playing(play: Callable[[Stage], Awaitable[None]], **scripts: Script) -> None:
    async def main() -> None:
        upstream, nodes = Scripted(scripts), Nodes()
        async with asyncio.TaskGroup() as group:
            candidates = Candidates(nodes, HopMark("0" * 32), heard(), lambda: LIMIT)
            shadows = Shadows(group, upstream, candidates, asyncio.get_running_loop().time)
            await play(Stage(shadows, upstream, nodes))
            shadows.stop()
        assert upstream.running == []
        assert nodes.load == 0

    run(main())


def copied(*models: str, limit_ms: float = 50) -> Plan:
    return plan("bert", limit_ms=limit_ms, shadows=tuple(map(Candidate, models)))


def test_a_copy_is_sent_at_once_and_waited_for_by_nobody() -> None:
    async def play(stage: Stage) -> None:
        stage.shadows.copy(held("bert", body=b"body"), copied("svm", "bayes"))
        await asyncio.sleep(0.001)
        assert sorted(request.path for _, request in stage.upstream.sent) == [
            "/v1/models/bayes:predict",
            "/v1/models/svm:predict",
        ]
        assert {b"".join(request.body) for _, request in stage.upstream.sent} == {b"body"}
        assert stage.upstream.running == ["svm"]
        await asyncio.sleep(0.01)
        assert (stage.count("answered"), stage.count("failed")) == (1, 1)

    playing(play, svm=Script(0.005), bayes=Script(0.0, rest_reply(b"", 500)))


def test_a_copy_that_hangs_ends_with_the_limit() -> None:
    async def play(stage: Stage) -> None:
        stage.shadows.copy(held(), copied("svm", limit_ms=50))
        await asyncio.sleep(0.049)
        assert stage.upstream.running == ["svm"]
        await asyncio.sleep(0.002)
        assert stage.upstream.running == []
        assert stage.count("failed") == 1

    playing(play, svm=Script(None))


@pytest.mark.parametrize("end", [UpstreamError("reset"), ZeroDivisionError("a mistake of ours")])
def test_a_copy_that_fails_ends_nothing_else(end: Exception) -> None:
    async def play(stage: Stage) -> None:
        stage.shadows.copy(held(), copied("svm", "bayes"))
        await asyncio.sleep(0.01)
        assert (stage.count("answered"), stage.count("failed")) == (1, 1)

    playing(play, svm=Script(0.001, end), bayes=Script(0.002))


def test_no_more_than_so_many_at_once() -> None:
    async def play(stage: Stage) -> None:
        for _ in range(MOST + 3):
            stage.shadows.copy(held(), copied("svm"))
        await asyncio.sleep(0.001)
        assert len(stage.upstream.running) == MOST
        assert stage.count("dropped") == 3
        await asyncio.sleep(0.05)
        stage.shadows.copy(held(), copied("svm"))
        assert stage.count("dropped") == 3

    playing(play, svm=Script(0.01))


def test_no_more_than_so_many_bytes_at_once() -> None:
    async def play(stage: Stage) -> None:
        big = held(body=bytes(MOST_BYTES // 2))
        for _ in range(3):
            stage.shadows.copy(big, copied("svm"))
        assert stage.count("dropped") == 1
        await asyncio.sleep(0.05)
        stage.shadows.copy(big, copied("svm"))
        assert stage.count("dropped") == 1

    playing(play, svm=Script(0.01))


def test_copies_end_with_the_process() -> None:
    async def play(stage: Stage) -> None:
        stage.shadows.copy(held(), copied("svm", limit_ms=60_000))
        await asyncio.sleep(0.001)
        assert stage.upstream.running == ["svm"]

    playing(play, svm=Script(None))


def test_at_a_node_a_copy_stands_behind_every_call_that_somebody_waits_for() -> None:
    async def play(stage: Stage) -> None:
        wish = replace(copied("svm"), priority=7, cross_request=True)
        stage.shadows.copy(held("bert"), wish)
        await asyncio.sleep(0.001)
        ((_, request),) = stage.upstream.sent
        assert dict(request.headers)["x-tbms-call"] == b"50;share;priority=-1000"

    playing(play, svm=Script())
