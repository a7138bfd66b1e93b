"""Runs a race: the shell around the pure one. Candidates go out through Envoy, the answer comes back.

Every candidate is a task of the race's own group, so that nothing outlives the race: when the client
goes away, the stream's handler is cancelled, and with it the group and every call on the wire.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ext_proc.broker.budget import Purse
from ext_proc.broker.effects import Cancel, Effect, Outcome, Start
from ext_proc.broker.estimates import Estimates, Path
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.broker.race import Race
from ext_proc.errors import CallError, TbmsError
from ext_proc.stream.decision import Decision, Held
from ext_proc.transport.candidate import Candidates
from ext_proc.transport.outcome import combine, compose
from ext_proc.transport.upstream import Response, Upstream, UpstreamError

logger = logging.getLogger(__name__)

# HTTP and gRPC statuses of a node that did no work: shed, not there.
_REFUSED_HTTP, _REFUSED_GRPC = frozenset({429, 503}), frozenset({8, 14})


@dataclass(frozen=True, slots=True)
class _Mail:
    """How one candidate call ended: with a response, or with the reason why there is none."""

    start: Start
    response: Response | None
    error: TbmsError | None


class FanOut:
    """Races for all streams of the process; they share the upstream, the estimates and the budget."""

    def __init__(
        self,
        upstream: Upstream,
        candidates: Candidates,
        estimates: Estimates,
        budget: Purse,
        margin_ms: float,
        path_of: Callable[[Candidate], Path],
        report: Callable[[Race, Held], None],
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._candidates = candidates
        self._estimates = estimates
        self._budget = budget
        self._margin_ms = margin_ms
        self._path_of = path_of
        self._report = report
        self._clock = clock

    async def run(self, held: Held, plan: Plan, arrival: float) -> Decision:
        """Races the call; the decision is an answer, an error included. Cancelled when the client goes away."""
        race = Race(
            plan,
            self._estimates.of_plan(plan, self._path_of, self._clock()),
            self._budget,
            lambda mix, payloads: combine(held.call, mix, payloads, self._candidates.body_limit()),
            arrival=arrival,
            margin_ms=self._margin_ms,
        )
        try:
            async with asyncio.TaskGroup() as group:
                outcome = await self._hold(race, held, group)
            return compose(held, plan, outcome)
        finally:
            race.cancelled(self._clock())
            self._report(race, held)

    async def _hold(self, race: Race, held: Held, group: asyncio.TaskGroup) -> Outcome:
        mail: asyncio.Queue[_Mail] = asyncio.Queue()
        legs: dict[tuple[int, int], asyncio.Task[None]] = {}
        effects = race.begin(self._clock())
        while True:
            outcome = self._perform(effects, held, group, legs, mail)
            if outcome is not None:
                return outcome
            effects = await self._next(race, mail)

    def _perform(
        self,
        effects: list[Effect],
        held: Held,
        group: asyncio.TaskGroup,
        legs: dict[tuple[int, int], asyncio.Task[None]],
        mail: asyncio.Queue[_Mail],
    ) -> Outcome | None:
        outcome: Outcome | None = None
        for effect in effects:
            if isinstance(effect, Start):
                legs[effect.rank, effect.member] = group.create_task(self._ask(effect, held, mail))
            elif isinstance(effect, Cancel):
                legs[effect.rank, effect.member].cancel()
            else:
                outcome = effect
        return outcome

    async def _next(self, race: Race, mail: asyncio.Queue[_Mail]) -> list[Effect]:
        """Waits for the next answer, or for the time that the race wants to be woken at."""
        wait = (race.wake_up or 0.0) - self._clock()
        try:
            async with asyncio.timeout(max(0.0, wait)):
                letter = await mail.get()
        except TimeoutError:
            return race.timer(self._clock())
        now, start = self._clock(), letter.start
        if letter.response is not None and letter.response.ok:
            return race.result(start.rank, start.member, letter.response, now)
        return race.failed(
            start.rank, start.member, letter.response or letter.error, now, refused=_is_refusal(letter.response)
        )

    async def _ask(self, start: Start, held: Held, mail: asyncio.Queue[_Mail]) -> None:
        """One candidate's call. Always leaves a letter, unless it is cancelled."""
        began = self._clock()
        path = self._path_of(start.candidate)
        try:
            with self._candidates.placed(held, start, began) as request:
                response = await self._upstream.call(request)
        except (UpstreamError, CallError) as error:
            mail.put_nowait(_Mail(start, None, error))
            return
        except Exception as error:
            logger.exception("candidate failed", extra={"model": start.candidate.title})
            mail.put_nowait(_Mail(start, None, TbmsError(f"the server failed on a candidate: {type(error).__name__}")))
            return
        now = self._clock()
        if response.ok:
            self._estimates.observe(start.candidate, path, (now - began) * 1000, now)
        mail.put_nowait(_Mail(start, response, None))


def _is_refusal(response: Response | None) -> bool:
    if response is None:
        return True  # it never got as far as an answer
    return response.status in _REFUSED_HTTP or response.grpc_status in _REFUSED_GRPC
