"""Gathers calls into batches: the shell around the pure scheduler.

A call that waits costs a future; a batch costs a task, and the scheduler as a whole one timer. What happens (a call, a
reply, the timer, a caller that goes) is told to the scheduler within the callback in which it happens.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import replace
from math import inf
from random import random
from typing import Any, Protocol

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.terms import Terms
from ext_proc.batching.waiting import Batch, Drop, Dropped, Effect, Send, Waiting
from ext_proc.broker.fields import MAX_PRIORITY
from ext_proc.errors import CallError, Reason
from ext_proc.gathering.batch_call import BatchCalls, Caller, Outcome
from ext_proc.gathering.batch_request import Part, joined_reply
from ext_proc.gathering.company import Company, CompanyReport, piece_rows, wants
from ext_proc.gathering.company_check import CheckReport, CompanyChecks
from ext_proc.gathering.place import Place, place_of
from ext_proc.http2.headers import Headers
from ext_proc.processing.decision import Held
from ext_proc.tracing.batches import BatchTrace, QueueTrace
from ext_proc.tracing.tracer import Tracer
from ext_proc.upstream.client import Response
from ext_proc.wake_up import WakeUp
from ext_proc.wire.batch import ReplyMismatch
from ext_proc.wire.codecs import batches_of
from ext_proc.worker_thread import off_loop
from mesh.trace_context import TraceContext

logger = logging.getLogger(__name__)

_LAST = Terms(shares=False, priority=-MAX_PRIORITY - 1)


class BatchReport(CompanyReport, CheckReport, Protocol):
    """Is told what becomes of calls and batches; `ext_proc.telemetry.batches`, but for tests."""

    def sent(self, batch: Batch, waits: Sequence[float]) -> None:
        """A batch leaves; `waits` are seconds that its members waited."""

    def ended(self, batch: Batch, seconds: float, outcome: Outcome, trace: TraceContext | None = None) -> None:
        """A batch has ended; `trace` is its span, if it is traced."""

    def dropped(self, model: str, why: Dropped) -> None:
        """A call was refused."""


class Gatherer:
    """Batches of all models of a node. `clock` in seconds, monotonic; `chance` from 0 up to 1.

    Its tasks are run by `group`, which goes on until `stop`; `tracer` where calls are traced.
    """

    def __init__(
        self,
        settings: BatchingSettings,
        upstream: Caller,
        report: BatchReport,
        clock: Callable[[], float],
        chance: Callable[[], float] = random,
        *,
        group: asyncio.TaskGroup,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.scheduler = Scheduler(settings)
        self._report = report
        self._clock = clock
        self._group = group
        self._tracer = tracer
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake_up = WakeUp(self._on_timer, clock)
        self._company = Company(report, clock)
        self._checks = CompanyChecks(settings, report, self._ask_alone, self._company.mark_unfit, chance)
        self._calls = BatchCalls(settings, upstream, self._company.mark_unfit, self._check)

    def stop(self) -> None:
        """No batch goes out any more, and those on their way are given up."""
        self._wake_up.at(None)
        for task in self._tasks:
            task.cancel()

    @property
    def is_idle(self) -> bool:
        """Whether no call waits here, and none is on its way."""
        return not self._tasks and not self.scheduler.calls

    def wants(self, model: str, terms: Terms) -> bool:
        """Whether a call is to be gathered, or at least ordered and shed, here."""
        return wants(self.settings, model, terms)

    async def ask(
        self, held: Held, terms: Terms, arrived: float, *, server_batches: bool = False, mark: Headers = ()
    ) -> Response:
        """The model server's reply to a call whose body is here; for gRPC, unpacked.

        `server_batches`: its server gathers by itself, as far as is known; the settings go before. `mark`: headers of
        ours for Envoy, which a batch has from its first call.

        Raises CallError where there is none. Whoever is cancelled leaves its queue; the rest of its batch stays whole.
        """
        settings = self.settings.of(held.call.model)
        if settings.server_batches is not None:
            server_batches = settings.server_batches
        call, member = (held.call, None) if server_batches else await self._company.member_of(held, terms, settings)
        pieces = [] if member is None else piece_rows(member, settings)
        if member is None or not pieces:
            return await self._wait(Part(held, member, call, mark=mark), terms, arrived, settings, server_batches)
        if not settings.split or len(pieces) > self.settings.queue_calls:
            most = f"{settings.max_rows} rows and {settings.max_bytes} bytes"
            raise CallError(
                Reason.TOO_LARGE, f"the call has {member.rows} rows of {member.size} bytes, over the limit of {most}"
            )
        parts = [Part(held, piece, call, whole=False, mark=mark) for piece in batches_of(call).split(member, pieces)]
        responses = await _all([self._wait(part, terms, arrived, settings) for part in parts])
        bad = next((response for response in responses if not response.ok), None)
        if bad is not None:
            return bad
        try:
            size = sum(len(response.body) for response in responses)
            return await off_loop(size, joined_reply, responses, held, member)
        except ReplyMismatch as mismatch:
            cause = f"the replies to the pieces of a call of {member.rows} rows cannot be joined: {mismatch}"
            raise CallError(Reason.BROKEN_MODEL, cause) from mismatch

    async def _wait(
        self, part: Part, terms: Terms, arrived: float, settings: ModelBatching, server_batches: bool = False
    ) -> Response:
        held, member = part.held, part.member
        lag_ms = settings.cross_lag_ms if terms.lag_ms is None else terms.lag_ms
        place, now = Place(part, asyncio.get_running_loop().create_future()), self._clock()
        if self._tracer is not None and held.trace is not None:
            place.trace = QueueTrace(self._tracer, held.trace)
        alone = member is None or terms.shares is False
        waiting = Waiting(
            held.call.model,
            None if alone or member is None else (member.key, self._key_headers(held)),
            1 if member is None else member.rows,
            held.size if member is None else member.size,
            now,
            deadline=arrived + (terms.limit_ms - self.settings.margin_ms) / 1000,
            lag_end=inf if lag_ms is None else now + lag_ms / 1000,
            priority=terms.priority,
            race=terms.race,
            server_batches=server_batches,
            payload=place,
        )
        self._perform(self.scheduler.add(waiting, now))
        try:
            return await place.reply
        except asyncio.CancelledError:
            self._perform(self.scheduler.withdraw(waiting, self._clock()))
            raise
        finally:
            if place.trace is not None:
                place.trace.ended(waiting.model, waiting.rows, sys.exception())
            del place, waiting  # an error's traceback holds this frame, and would hold the call with it

    def _key_headers(self, held: Held) -> Hashable:
        headers = held.head.headers
        return tuple([headers.get(name) for name in self.settings.key_headers])

    def _on_timer(self) -> None:
        self._perform(self.scheduler.timer(self._clock()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._spawn(self._run(effect.batch))
            else:
                self._report.dropped(effect.call.model, effect.why)
                place_of(effect.call).refuse(_refusal(effect))
        self._wake_up.at(self.scheduler.wake_up)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: Batch) -> None:
        """One batch to its end."""
        began = self._clock()
        self._report.sent(batch, [began - member.arrived for member in batch.members])
        outcome = Outcome.FAILED
        groups = 0  # in how many its members are asked again
        trace = self._trace(batch)
        try:
            outcome, groups = await self._calls.ask(batch, None if trace is None else trace.context)
        except CallError as error:
            self._refuse(batch, error)
        except Exception as error:
            logger.exception("batch failed", extra={"model": batch.model})
            self._refuse(batch, CallError(Reason.INTERNAL, f"The server failed on a batch: {type(error).__name__}."))
        finally:
            now = self._clock()
            self._report.ended(batch, now - began, outcome, None if trace is None else trace.context)
            if trace is not None:
                trace.ended(batch.model, batch.rows, batch.why.value, outcome)
            if groups:
                self._perform(self.scheduler.ask_again(batch.number, now, groups=groups))
            else:
                self._perform(self.scheduler.finished(batch.number, now, answered=outcome is Outcome.ANSWERED))

    def _trace(self, batch: Batch) -> BatchTrace | None:
        """The span of the batch, if one of its members is traced."""
        if self._tracer is None:
            return None
        traced = [trace for trace in (place_of(member).trace for member in batch.members) if trace is not None]
        return BatchTrace(self._tracer, traced, len(batch.members)) if traced else None

    def _check(self, model: str, part: Part, given: Response) -> None:
        """An answer in company is compared with the one alone, if it is drawn for that."""
        if self._checks.draws(model):
            self._spawn(self._checks.check(model, part, given))

    async def _ask_alone(self, part: Part) -> Response:
        """Once more and by itself, for a comparison: after every call that somebody waits for."""
        settings = self.settings.of(part.held.call.model)
        if part.held.trace is not None:  # its caller has the answer, and its trace has ended
            part = replace(part, held=replace(part.held, trace=None))
        return await self._wait(part, _LAST, self._clock(), settings)

    def _refuse(self, batch: Batch, error: CallError) -> None:
        for member in batch.members:
            place_of(member).refuse(error)


async def _all(waits: Sequence[Coroutine[Any, Any, Response]]) -> list[Response]:
    """All replies. With the first that is refused the others are given up: raises CallError."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _refusal(drop: Drop) -> CallError:
    call = drop.call
    if drop.why is Dropped.LATE:
        late = f"Model {call.model!a} is too busy to answer within the call's limit."
        return CallError(Reason.DEADLINE, late, why=drop.why.value)
    return CallError(
        Reason.OVERLOADED, f"Model {call.model!a} has too many calls waiting.", drop.retry_after, why=drop.why.value
    )
