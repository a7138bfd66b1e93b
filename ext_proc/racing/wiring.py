"""The time broker of one process: everything that races share, wired together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from prometheus_client.registry import Collector

from ext_proc.broker.budget import Budget
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.broker.settings import BrokerSettings
from ext_proc.processing.decision import Decision, Held
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.race_runner import FanOut
from ext_proc.racing.shadow import Shadows
from ext_proc.telemetry.races import RaceReport
from ext_proc.upstream.client import Upstream
from ext_proc.wire.call import Call
from mesh.routing.placement import Prospect


class Broker:
    """Decides held calls by racing their candidates, and copies to shadows what is to be copied."""

    def __init__(self, fan_out: FanOut, shadows: Shadows, report: RaceReport) -> None:
        self._fan_out = fan_out
        self._shadows = shadows
        self._report = report

    async def decide(self, held: Held, plan: Plan, arrival: float) -> Decision:
        """The answer to a held call; see `FanOut.run`."""
        if plan.shadows:
            self._shadows.copy(held, plan)
        return await self._fan_out.run(held, plan, arrival)

    def collectors(self) -> Iterable[Collector]:
        """The metrics of races and copies."""
        return (*self._report.collectors(), self._shadows.copies)


@asynccontextmanager
async def broker(
    settings: BrokerSettings,
    egress: str,
    candidates: Candidates,
    prospect_of: Callable[[Call, Candidate], Prospect],
    clock: Callable[[], float],
) -> AsyncIterator[Broker]:
    """A broker for the length of a block."""
    budget = Budget(settings.hedge_share, settings.hedge_burst_ms)
    report = RaceReport(budget)
    async with Upstream(egress, candidates.body_limit) as upstream, asyncio.TaskGroup() as group:
        shadows = Shadows(group, upstream, candidates, clock)
        estimates = Estimates(settings)
        fan_out = FanOut(group, upstream, candidates, estimates, budget, settings.margin_ms, prospect_of, report, clock)
        try:
            yield Broker(fan_out, shadows, report)
        finally:
            shadows.stop()
