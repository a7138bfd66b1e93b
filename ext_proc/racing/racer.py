"""The racer of one process: everything that races and shadow copies share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from prometheus_client.registry import Collector

from ext_proc.broker.budget import HedgeBudget
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Plan
from ext_proc.broker.race import Race
from ext_proc.broker.settings import BrokerSettings
from ext_proc.processing.decision import Held, Respond
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.race_runner import RaceRunner
from ext_proc.racing.sending import Sender
from ext_proc.racing.shadow import Shadows
from ext_proc.tracing.tracer import Tracer
from ext_proc.upstream.client import Upstream


class Racer:
    """Answers held calls by racing their candidates, and copies to shadows what is to be copied, while `running`.

    `report`, `race_tokens`, `clock` and `tracer` are those of `RaceRunner`.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        estimates: Estimates,
        upstream: Upstream,
        sender: Sender,
        candidates: Candidates,
        budget: HedgeBudget,
        report: Callable[[Race, Held], None],
        race_tokens: Iterator[str],
        clock: Callable[[], float],
        tracer: Tracer | None = None,
    ) -> None:
        self._upstream = upstream
        self._group = asyncio.TaskGroup()
        self._shadows = Shadows(self._group, upstream, candidates, clock)
        self._race_runner = RaceRunner(
            self._group,
            sender,
            candidates,
            estimates,
            budget,
            settings.margin_ms,
            report,
            race_tokens,
            clock,
            tracer,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Calls can go out for the length of the block; copies that are still on their way at its end are given up."""
        async with self._upstream, self._group:
            try:
                yield
            finally:
                self._shadows.stop()

    async def race(self, held: Held, plan: Plan, arrival: float) -> Respond:
        """The answer to a held call; see `RaceRunner.run`."""
        if plan.shadows:
            self._shadows.copy(held, plan)
        return await self._race_runner.run(held, plan, arrival)

    def collectors(self) -> Iterable[Collector]:
        """The metrics of copies."""
        return (self._shadows.copies,)
