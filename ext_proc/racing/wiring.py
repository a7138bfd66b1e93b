"""The time broker of one process: everything that races share, wired together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from prometheus_client.registry import Collector

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.broker.settings import BrokerSettings
from ext_proc.processing.decision import Decision, Held
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.race_runner import RaceRunner
from ext_proc.racing.shadow import Shadows
from ext_proc.telemetry.races import RaceReport
from ext_proc.upstream.client import Upstream
from ext_proc.wire.call import Call
from mesh.routing.placement import ExpectedWait


class Broker:
    """Decides held calls by racing their candidates, and copies to shadows what is to be copied."""

    def __init__(self, race_runner: RaceRunner, shadows: Shadows, report: RaceReport) -> None:
        self._race_runner = race_runner
        self._shadows = shadows
        self._report = report

    async def decide(self, held: Held, plan: Plan, arrival: float) -> Decision:
        """The answer to a held call; see `RaceRunner.run`."""
        if plan.shadows:
            self._shadows.copy(held, plan)
        return await self._race_runner.run(held, plan, arrival)

    def collectors(self) -> Iterable[Collector]:
        """The metrics of races and copies."""
        return (*self._report.collectors(), self._shadows.copies)


@asynccontextmanager
async def broker(
    settings: BrokerSettings,
    egress: str,
    candidates: Candidates,
    expected_wait_of: Callable[[Call, Candidate], ExpectedWait],
    clock: Callable[[], float],
) -> AsyncIterator[Broker]:
    """A broker for the length of a block."""
    budget = TokenBucket(settings.hedge_share, settings.hedge_burst_ms)
    report = RaceReport(budget)
    async with Upstream(egress, candidates.body_limit) as upstream, asyncio.TaskGroup() as group:
        shadows = Shadows(group, upstream, candidates, clock)
        estimates = Estimates(settings)
        race_runner = RaceRunner(
            group, upstream, candidates, estimates, budget, settings.margin_ms, expected_wait_of, report, clock
        )
        try:
            yield Broker(race_runner, shadows, report)
        finally:
            shadows.stop()
