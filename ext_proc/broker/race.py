"""The race: who is asked when, whose answer is returned, who is cancelled.

Pure: events go in with the time at which they happened, effects come out, and `wake_up` says when
to call `timer` next. Nothing runs in between, so that a pending race costs one timer of its shell.
Inside, time is whole microseconds since arrival: comparisons are exact, and a recorded race can be
run again to the same decisions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ext_proc.broker.budget import HedgeBudget
from ext_proc.broker.effects import Answer, Cancel, Effect, Fail, Fallback, Outcome, Start, Why
from ext_proc.broker.lineup import ask_budget, heir_of, is_hedge, last_of, line_up, next_wake
from ext_proc.broker.log import Note, Work, started_work
from ext_proc.broker.plan import AnswerMode, Mix, Plan
from ext_proc.broker.runner import CallState, RankState, State
from ext_proc.broker.schedule import Estimate, micros
from ext_proc.errors import CallError

Combine = Callable[[Mix, Mapping[int, Any]], Any]
"""Makes one payload of the payloads of a mix, by member; raises CallError where they do not fit together."""


class Race:
    """One call, its candidates and its limit.

    `estimates` by rank and member; `arrival` is when the call reached Envoy (seconds, monotonic, the
    clock of every `now`). After `Answer`, `Fail` or `Fallback`, or `cancelled`, the race is over: late
    events are ignored.
    """

    def __init__(
        self,
        plan: Plan,
        estimates: Sequence[Sequence[Estimate]],
        budget: HedgeBudget,
        combine: Combine,
        *,
        arrival: float,
        margin_ms: float,
    ) -> None:
        self.plan = plan
        self.estimates = estimates
        self.margin_ms = margin_ms
        self.arrival = arrival
        self.over = False
        self.outcome: Outcome | None = None
        self.log: list[Note] = []
        self.budget = budget
        self._combine = combine
        self._limit = micros(plan.limit_ms)
        self._cutoff = max(0, self._limit - micros(margin_ms))
        self._runners = line_up(plan, estimates, self._limit, micros(margin_ms))
        self._fallen: list[RankState] = []
        self._out: list[Effect] = []
        self._wake = 0

    @property
    def wake_up(self) -> float | None:
        """When `timer` is to be called next (same clock as `now`); None when the race is over."""
        return None if self.over else self.arrival + self._wake / 1e6

    def work_ms(self) -> Work:
        """The work that was started so far, by its purpose."""
        return started_work(self.log, [runner.cost_ms for runner in self._runners])

    def begin(self, now: float) -> list[Effect]:
        """The race starts. Nothing is sent where the limit has passed already."""
        at = self._at(now)
        self._note(at, "begin")
        if at >= self._limit:
            self._fail(Why.EXPIRED, None, at)
        else:
            self.budget.earn(self._runners[0].cost_ms)
        return self._settle(at)

    def result(self, rank: int, member: int, payload: Any, now: float) -> list[Effect]:
        """A candidate has answered."""
        at = self._at(now)
        runner = self._runners[rank]
        if self.over or not runner.is_pending(member):
            return []
        self._note(at, "result", rank, member)
        runner.legs[member] = CallState.ARRIVED
        if at <= self._limit:  # what arrives after the limit is not an answer any more
            runner.payloads[member] = payload
            if not runner.pending():
                self._complete(runner, at)
        return self._settle(at)

    def failed(self, rank: int, member: int, error: Any, now: float, *, refused: bool = False) -> list[Effect]:
        """A candidate has failed; `refused` where it did no work (shed, no connection)."""
        at = self._at(now)
        runner = self._runners[rank]
        if self.over or not runner.is_pending(member):
            return []
        self._note(at, "refused" if refused else "failed", rank, member)
        runner.legs[member] = CallState.FAILED
        if runner.error is None:
            runner.error, runner.refused = error, refused
        if at <= self._limit and not runner.pending():
            self._complete(runner, at)
        return self._settle(at)

    def timer(self, now: float) -> list[Effect]:
        """The time of `wake_up` has come. Calling it earlier, or twice, does no harm."""
        if self.over:
            return []
        at = self._at(now)
        self._note(at, "timer")
        before = len(self.log)
        effects = self._settle(at)
        if len(self.log) == before:
            self.log.pop()
        return effects

    def cancelled(self, now: float) -> list[Effect]:
        """The client has gone away: every call is given up, nothing is answered."""
        if self.over:
            return []
        at = self._at(now)
        self._note(at, "gone")
        self._close(at)
        return self._taken()

    def _at(self, now: float) -> int:
        return max(0, round((now - self.arrival) * 1e6))

    def _note(self, at: int, what: str, rank: int = -1, member: int = -1) -> None:
        self.log.append((at, what, rank, member))

    def _taken(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _settle(self, at: int) -> list[Effect]:
        if not self.over:
            self._decide(at)
        if not self.over:
            self._start_due(at)
            self._wake = next_wake(self._runners, self._limit, self._cutoff)
        return self._taken()

    # Who has answered, and who has failed

    def _complete(self, runner: RankState, at: int) -> None:
        """No call of this rank is awaited any more: it has a result, or has failed."""
        for member in runner.pending():
            self._cancel(runner, member, at)
        if runner.payloads:
            try:
                if isinstance(runner.entrant, Mix):
                    runner.result = self._combine(runner.entrant, runner.payloads)
                else:
                    runner.result = runner.payloads[0]
            except CallError as error:
                runner.error = None
                runner.fail(error, refused=False)
                self._note(at, "unfit", runner.rank)
            else:
                self._hold(runner, at)
        else:
            runner.fail(runner.error, refused=runner.refused)
        if runner.state is State.FAILED:
            self._fallen.append(runner)

    def _hold(self, runner: RankState, at: int) -> None:
        """This rank has a result: all worse ones are useless from now on."""
        runner.state = State.HELD
        for worse in self._runners[runner.rank + 1 :]:
            for member in worse.pending():
                self._cancel(worse, member, at)
            if worse.can_finish or worse.state is State.HELD:
                worse.state = State.DROPPED
                worse.result = None

    def _decide(self, at: int) -> None:
        """Answers if the best result is at hand, or if it is time; fails if there is nothing to wait for."""
        urgent = at >= self._cutoff
        for runner in self._runners:
            if urgent and runner.state is State.RUNNING and runner.payloads:
                self._complete(runner, at)
            if runner.state is State.HELD:
                self._answer(runner, at)
                return
            if runner.can_finish and not urgent and self.plan.answer is AnswerMode.BEST:
                return
        if all(runner.state is State.FAILED for runner in self._runners):
            self._fail(self._primary_fault(), self._runners[0].error, at)
        elif at >= self._limit:
            self._fail(Why.DEADLINE, None, at)

    def _answer(self, runner: RankState, at: int) -> None:
        if runner.rank == 0:
            why = Why.PARTIAL if runner.partial else Why.PRIMARY
        elif self._runners[0].state is State.FAILED:
            why = self._primary_fault()
        else:
            why = Why.FIRST if self.plan.answer is AnswerMode.FIRST and at < self._cutoff else Why.OVERDUE
        made_of = tuple(sorted(runner.payloads))
        left = (self._limit - at) / 1000
        self._note(at, "answer", runner.rank)
        self._finish(Answer(runner.rank, runner.result, why, made_of, runner.partial, at / 1000, left), at)

    def _primary_fault(self) -> Why:
        return Why.REFUSED if self._runners[0].refused else Why.FAILED

    def _fail(self, why: Why, error: Any, at: int) -> None:
        left = (self._limit - at) / 1000
        if self.plan.fallback is not None and why is not Why.EXPIRED:
            self._note(at, "fallback")
            self._finish(Fallback(self.plan.fallback, why, at / 1000, left), at)
        else:
            self._note(at, "fail")
            self._finish(Fail(why, error, at / 1000, left), at)

    def _finish(self, outcome: Outcome, at: int) -> None:
        self.outcome = outcome
        self._out.append(outcome)
        self._close(at)

    def _close(self, at: int) -> None:
        self.over = True
        for runner in self._runners:
            for member in runner.pending():
                self._cancel(runner, member, at)

    def _cancel(self, runner: RankState, member: int, at: int) -> None:
        runner.legs[member] = CallState.FAILED
        self._note(at, "cancel", runner.rank, member)
        self._out.append(Cancel(runner.rank, member))

    # Who is asked

    def _start_due(self, at: int) -> None:
        for fallen in self._fallen:
            heir = heir_of(fallen, self._runners)
            if heir is not None:
                self._start(heir, at)
        self._fallen.clear()
        last = last_of(self._runners)
        if last.due is None:
            last.due = last.latest  # all behind it have failed: now it is the one that must return something
        for runner in self._runners:
            if runner.state is State.WAITING and runner.due is not None and runner.due <= at:
                self._start(runner, at)

    def _start(self, runner: RankState, at: int) -> None:
        """Starts a rank, unless it is a hedge that the budget refuses."""
        hedge = is_hedge(runner, self._runners)
        if hedge:
            verdict = ask_budget(self.budget, runner, self._runners, at)
            self._note(at, verdict, runner.rank)
            if verdict == "denied":
                if runner.due is not None and runner.due <= at:
                    runner.due = runner.latest if runner is last_of(self._runners) else None
                return
        runner.state = State.RUNNING
        remaining = (self._limit - at) / 1000
        for member, candidate in enumerate(runner.candidates):
            self._note(at, "start", runner.rank, member)
            self._out.append(Start(runner.rank, member, candidate, remaining, hedge))
