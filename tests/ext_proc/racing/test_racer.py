"""The racer: a held call is copied to its shadows and raced, for as long as the racer runs."""

import asyncio
from typing import Self

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate
from ext_proc.broker.settings import BrokerSettings
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.racer import Racer
from ext_proc.racing.sending import Sender
from ext_proc.upstream.hop_mark import HopMark
from integration.virtual_time import run
from tests.ext_proc.racing.scene import LIMIT, Nodes, Script, Scripted, heard, held, plan, rest_reply


class Upstream(Scripted):
    """One that is entered and left, as the real one."""

    entered = False

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.running == []
        self.entered = False


def test_a_call_is_answered_while_its_copy_goes_its_own_way() -> None:
    async def main() -> None:
        upstream, nodes, reports = (
            Upstream({"bert": Script(0.005, rest_reply(b"bert")), "svm": Script(None)}),
            Nodes(),
            [],
        )
        clock = asyncio.get_running_loop().time
        candidates = Candidates(nodes, HopMark("0" * 32), heard(), lambda: LIMIT)
        racer = Racer(
            BrokerSettings(),
            Estimates(BrokerSettings()),
            upstream,  # type: ignore[arg-type]
            Sender(candidates, upstream, clock, lambda node_id, cause: None),
            candidates,
            TokenBucket(0.2, 500.0),
            lambda race, call: reports.append((race, call)),
            iter(["r1"]),
            clock,
        )
        async with racer.running():
            assert upstream.entered
            answer = await racer.race(held(), plan("bert", shadows=(Candidate("svm"),), limit_ms=60_000), 0.0)
            assert answer.body == b"bert"
            assert upstream.running == ["svm"]
        assert clock() < 1, "a copy is given up when the racer stops"
        assert upstream.cancelled == ["svm"]
        assert (nodes.load, len(reports), upstream.entered) == (0, 1, False)

    run(main())
