"""Runs races: the shell around the pure one. Candidates go out through Envoy, the answer comes back.

A race that waits costs one timer and the calls that it has on the wire: no task of its own, no queue, no polling. What
happens (an answer, a failure, the timer) is told to the race within the callback in which it happens.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from ext_proc.broker.budget import HedgeBudget
from ext_proc.broker.effects import Answer, Cancel, Effect, Fail, Outcome, Start, Why
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Mix, Plan
from ext_proc.broker.race import Race
from ext_proc.contract import ANSWER_HEADER, NOBODY_ANSWERED
from ext_proc.errors import CallError, Reason, TbmsError, kept
from ext_proc.grpc_status import GrpcStatus
from ext_proc.processing.decision import Held, Respond
from ext_proc.racing.answer import compose
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.member_replies import FittingReplies, MemberReply, fitting, read_member
from ext_proc.racing.sending import Sender
from ext_proc.tracing.races import RaceTrace
from ext_proc.tracing.tracer import Tracer
from ext_proc.upstream.client import Response, UpstreamError
from ext_proc.wake_up import WakeUp
from mesh.routing.placement import RESIDENT, ExpectedWait

logger = logging.getLogger(__name__)

# HTTP and gRPC statuses of a node that did no work: shed, not there.
_REFUSED_HTTP = frozenset({429, 503})
_NOBODY_ANSWERED = f"{NOBODY_ANSWERED};".encode("ascii")
_REFUSED_GRPC = frozenset({GrpcStatus.RESOURCE_EXHAUSTED, GrpcStatus.UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class RaceRunner:
    """Races for all streams of the process; they share everything that is here.

    `group` owns the calls on the wire: a race does not wait for its losers to be gone before it answers. `report` is
    called once for every race, after its answer is on its way. `race_tokens` never end, and none is another process's.
    `clock` in seconds, monotonic. `tracer` where calls are traced.
    """

    group: asyncio.TaskGroup
    sender: Sender
    candidates: Candidates
    estimates: Estimates
    budget: HedgeBudget
    margin_ms: float
    report: Callable[[Race, Held], None]
    race_tokens: Iterator[str]
    clock: Callable[[], float]
    tracer: Tracer | None = None

    async def run(self, held: Held, plan: Plan, arrival: float) -> Respond:
        """Races the call: the answer, an error included. To be cancelled when the client goes away."""
        now = self.clock()
        race = Race(
            plan,
            self.estimates.of_plan(
                plan, lambda candidate: self.candidates.expected_wait(held, candidate, now, plan.limit_ms), now
            ),
            self.budget,
            fitting(held.call, self.candidates.body_limit()),
            arrival=arrival,
            margin_ms=self.margin_ms,
        )
        race_run = _RaceRun(self, race, held)
        try:
            return compose(held, plan, await _combined(await race_run.run()))
        finally:
            race_run.stop()
            loop = asyncio.get_running_loop()
            loop.call_soon(self.report, race, held)
            if race_run.trace is not None:
                loop.call_soon(race_run.trace.ended, race)


class _RaceRun:
    """One race while it runs: its calls on the wire, its timer, and the future of its outcome."""

    __slots__ = ("_calls", "_held", "_outcome", "_race", "_shared", "_token", "_wake_up", "trace")

    def __init__(self, shared: RaceRunner, race: Race, held: Held) -> None:
        self._shared = shared
        self._race = race
        self._held = held
        self._token = next(shared.race_tokens)
        self.trace: RaceTrace | None = None
        """The spans of the race, if its call is traced."""
        if shared.tracer is not None and held.trace is not None:
            self.trace = RaceTrace(shared.tracer, held.trace)
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._calls: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._wake_up = WakeUp(partial(self._happens, race.timer), shared.clock)

    async def run(self) -> Outcome:
        """Until the race has its outcome."""
        self._happens(self._race.begin)
        return await self._outcome

    def stop(self) -> None:
        """Gives up what is still running: nothing, unless the client has gone away."""
        for effect in self._race.cancelled(self._shared.clock()):
            if isinstance(effect, Cancel):
                self._give_up(effect)
        self._wake_up.close()

    def _happens(self, event: Callable[[float], list[Effect]]) -> None:
        """Tells the race what has happened now, and does what it asks for."""
        if self._outcome.done():
            return
        try:
            outcome = self._perform(event(self._shared.clock()))
        except Exception as error:
            # In a callback nobody would hear of it, and the call would wait for ever.
            self._outcome.set_exception(error)
            return
        if outcome is not None:
            self._outcome.set_result(outcome)
        self._wake_up.at(self._race.wake_up)

    def _perform(self, effects: list[Effect]) -> Outcome | None:
        outcome: Outcome | None = None
        for effect in effects:
            if isinstance(effect, Start):
                self._calls[effect.rank, effect.member] = self._shared.group.create_task(self._call(effect))
            elif isinstance(effect, Cancel):
                self._give_up(effect)
            else:
                outcome = effect
        return outcome

    def _give_up(self, cancel: Cancel) -> None:
        # Forgotten: a cancelled task keeps what its frames held, and they hold us.
        call = self._calls.pop((cancel.rank, cancel.member), None)
        if call is not None:
            call.cancel()

    async def _call(self, start: Start) -> None:
        """One candidate's call, to its end or until it is cancelled."""
        shared = self._shared
        response: Response | None = None
        error: TbmsError | None = None
        began = shared.clock()
        expected_wait = RESIDENT
        held = self._held
        trace = None if self.trace is None else self.trace.candidate(start.rank, start.member)
        if trace is not None:
            held = replace(held, trace=trace.context)

        def placed(nodes: tuple[str, ...], wait: ExpectedWait) -> None:
            nonlocal expected_wait
            expected_wait = wait
            if trace is not None:
                trace.nodes.append(nodes[0])

        try:
            response = await shared.sender.send(held, start, self._race.plan, self._token, placed)
        except asyncio.CancelledError:
            now = shared.clock()
            shared.estimates.given_up(start.candidate, expected_wait, (now - began) * 1000, now)
            raise
        except (UpstreamError, CallError) as caught:
            error = kept(caught)
        except Exception as caught:
            logger.exception("candidate failed", extra={"model": start.candidate.title})
            error = CallError(Reason.INTERNAL, f"The server failed on a candidate: {type(caught).__name__}.")
        if response is not None and response.ok:
            now = shared.clock()
            shared.estimates.observe(start.candidate, expected_wait, (now - began) * 1000, now)
            payload = await self._payload(start, response)
            self._happens(partial(self._race.result, start.rank, start.member, payload))
        else:
            refused = _is_refusal(response, error)
            self._happens(partial(self._race.failed, start.rank, start.member, response or error, refused=refused))

    async def _payload(self, start: Start, response: Response) -> Response | MemberReply:
        """What the race is told: the response, and of a member of a mix what it says."""
        if not isinstance(self._race.plan.candidates[start.rank], Mix):
            return response
        return await read_member(self._held.call, start.candidate, response, self._shared.candidates.body_limit())


async def _combined(outcome: Outcome) -> Outcome:
    """The outcome with the one reply of a mix. Replies that fit and cannot be written again: an error of the call."""
    if not isinstance(outcome, Answer) or not isinstance(outcome.payload, FittingReplies):
        return outcome
    try:
        return replace(outcome, payload=await outcome.payload.combined())
    except CallError as error:
        return Fail(Why.FAILED, error, outcome.elapsed_ms, outcome.left_ms)


def _is_refusal(response: Response | None, error: TbmsError | None) -> bool:
    """Whether no node did any work."""
    if response is not None:
        if response.status in _REFUSED_HTTP or response.grpc_status in _REFUSED_GRPC:
            return True
        # A node that foresees that it will be late says so at once, by this header.
        said = (value for key, value in (*response.headers, *(response.trailers or ())) if key == ANSWER_HEADER)
        return any(value.startswith(_NOBODY_ANSWERED) for value in said)
    if isinstance(error, CallError):
        return error.reason is Reason.UNAVAILABLE or error.why is not None
    return isinstance(error, UpstreamError) and error.refused
