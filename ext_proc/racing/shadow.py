"""Shadow copies: calls sent to another model beside the real one, whose answers are dropped."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ext_proc.broker.effects import Start
from ext_proc.broker.fields import MAX_PRIORITY
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.errors import CallError
from ext_proc.processing.decision import Held
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.sending import Caller
from ext_proc.telemetry.tallies import Tally
from ext_proc.upstream.client import UpstreamError

logger = logging.getLogger(__name__)

# Copies in flight at once, and the bytes of their bodies; what is more is dropped, since a shadow must never slow
# what it shadows. A copy outlives its call, so that bodies are kept on its account.
MOST = 256
MOST_BYTES = 256 << 20


class Shadows:
    """Owns the copies that are in flight. They outlive the call that they copy, but not the process."""

    def __init__(
        self, group: asyncio.TaskGroup, upstream: Caller, candidates: Candidates, clock: Callable[[], float]
    ) -> None:
        self._group = group
        self._upstream = upstream
        self._candidates = candidates
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self.copies = Tally("tbms_shadow_copies", "Shadow copies, by what became of them.", ["outcome"])

    def copy(self, held: Held, plan: Plan) -> None:
        """Sends the plan's copies on their way."""
        # In a queue for batches it stands behind every call that somebody waits for.
        plan = replace(plan, priority=-MAX_PRIORITY)
        size = held.size if held.message is None else len(held.message)
        for candidate in plan.shadows:
            if len(self._tasks) >= MOST or self._bytes + size > MOST_BYTES:
                self.copies.counts["dropped",] += 1
                continue
            task = self._group.create_task(self._send(held, candidate, plan))
            self._tasks.add(task)
            self._bytes += size
            task.add_done_callback(partial(self._over, size))

    def stop(self) -> None:
        """Gives up what is in flight."""
        for task in self._tasks:
            task.cancel()

    def _over(self, size: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._bytes -= size

    async def _send(self, held: Held, candidate: Candidate, plan: Plan) -> None:
        start = Start(rank=0, member=0, candidate=candidate, remaining_ms=plan.limit_ms, hedge=False)
        try:
            async with asyncio.timeout(plan.limit_ms / 1000):
                request, lease, _ = self._candidates.placed(held, start, plan, None, self._clock())
                try:
                    response = await self._upstream.call(request)
                finally:
                    lease.release()
                self._candidates.replied(candidate, response, self._clock())
        except (UpstreamError, CallError, TimeoutError) as error:
            logger.debug("shadow failed", extra={"model": candidate.title, "cause": str(error)})
            self.copies.counts["failed",] += 1
        except Exception:
            # The group is the process's: what escapes would end it, and every race with it.
            logger.exception("shadow failed", extra={"model": candidate.title})
            self.copies.counts["failed",] += 1
        else:
            self.copies.counts["answered" if response.ok else "failed",] += 1
