"""Shadow copies: calls sent to another model beside the real one, whose answers are dropped."""

import asyncio
import logging
from collections.abc import Callable

from ext_proc.broker.effects import Start
from ext_proc.broker.plan import Plan
from ext_proc.errors import CallError
from ext_proc.stream.decision import Held
from ext_proc.transport.candidate import Candidates
from ext_proc.transport.upstream import Upstream, UpstreamError

logger = logging.getLogger(__name__)

# Copies in flight at once; one more is dropped, since a shadow must never slow what it shadows.
MOST = 256


class Shadows:
    """Owns the copies that are in flight. They outlive the call that they copy, but not the process."""

    def __init__(
        self, group: asyncio.TaskGroup, upstream: Upstream, candidates: Candidates, clock: Callable[[], float]
    ) -> None:
        self._group = group
        self._upstream = upstream
        self._candidates = candidates
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0

    def copy(self, held: Held, plan: Plan) -> None:
        """Sends the plan's copies on their way."""
        for candidate in plan.shadows:
            if len(self._tasks) >= MOST:
                self.dropped += 1
                continue
            start = Start(rank=0, member=0, candidate=candidate, remaining_ms=plan.limit_ms, hedge=False)
            task = self._group.create_task(self._send(held, start))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Gives up what is in flight."""
        for task in self._tasks:
            task.cancel()

    async def _send(self, held: Held, start: Start) -> None:
        try:
            async with asyncio.timeout(start.remaining_ms / 1000):
                with self._candidates.placed(held, start, self._clock()) as request:
                    response = await self._upstream.call(request)
            logger.debug("shadow answered", extra={"model": start.candidate.title, "ok": response.ok})
        except (UpstreamError, CallError, TimeoutError) as error:
            logger.debug("shadow failed", extra={"model": start.candidate.title, "cause": str(error)})
