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
from ext_proc.broker.log import Note, Work, started_work
from ext_proc.broker.plan import AnswerMode, Mix, Plan
from ext_proc.broker.ranks import (
    CallState,
    Rank,
    RankState,
    ask_budget,
    is_hedge,
    last_useful,
    next_wake,
    ranks_of,
    successor_of,
)
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
        self._ranks = ranks_of(plan, estimates, self._limit, micros(margin_ms))
        self._failed_ranks: list[Rank] = []
        self._out: list[Effect] = []
        self._wake = 0

    @property
    def wake_up(self) -> float | None:
        """When `timer` is to be called next (same clock as `now`); None when the race is over."""
        return None if self.over else self.arrival + self._wake / 1e6

    def work_ms(self) -> Work:
        """The work that was started so far, by its purpose."""
        return started_work(self.log, [rank.cost_ms for rank in self._ranks])

    def begin(self, now: float) -> list[Effect]:
        """The race starts. Nothing is sent where the limit has passed already."""
        at = self._at(now)
        self._note(at, "begin")
        if at >= self._limit:
            self._fail(Why.EXPIRED, None, at)
        else:
            self.budget.earn(self._ranks[0].cost_ms)
        return self._settle(at)

    def result(self, rank: int, member: int, payload: Any, now: float) -> list[Effect]:
        """A candidate has answered."""
        at = self._at(now)
        asked = self._ranks[rank]
        if self.over or not asked.is_pending(member):
            return []
        self._note(at, "result", rank, member)
        asked.calls[member] = CallState.ARRIVED
        if at <= self._limit:  # what arrives after the limit is not an answer any more
            asked.payloads[member] = payload
            if not asked.pending():
                self._complete(asked, at)
        return self._settle(at)

    def failed(self, rank: int, member: int, error: Any, now: float, *, refused: bool = False) -> list[Effect]:
        """A candidate has failed; `refused` where it did no work (shed, no connection)."""
        at = self._at(now)
        asked = self._ranks[rank]
        if self.over or not asked.is_pending(member):
            return []
        self._note(at, "refused" if refused else "failed", rank, member)
        asked.calls[member] = CallState.FAILED
        if asked.error is None:
            asked.error, asked.refused = error, refused
        if at <= self._limit and not asked.pending():
            self._complete(asked, at)
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
            self._wake = next_wake(self._ranks, self._limit, self._cutoff)
        return self._taken()

    # Who has answered, and who has failed

    def _complete(self, rank: Rank, at: int) -> None:
        """No call of this rank is awaited any more: it has a result, or has failed."""
        for member in rank.pending():
            self._cancel(rank, member, at)
        if rank.payloads:
            try:
                if isinstance(rank.target, Mix):
                    rank.result = self._combine(rank.target, rank.payloads)
                else:
                    rank.result = rank.payloads[0]
            except CallError as error:
                rank.error = None
                rank.fail(error, refused=False)
                self._note(at, "unfit", rank.index)
            else:
                self._hold(rank, at)
        else:
            rank.fail(rank.error, refused=rank.refused)
        if rank.state is RankState.FAILED:
            self._failed_ranks.append(rank)

    def _hold(self, rank: Rank, at: int) -> None:
        """This rank has a result: all worse ones are useless from now on."""
        rank.state = RankState.HELD
        for worse in self._ranks[rank.index + 1 :]:
            for member in worse.pending():
                self._cancel(worse, member, at)
            if worse.can_finish or worse.state is RankState.HELD:
                worse.state = RankState.DROPPED
                worse.result = None

    def _decide(self, at: int) -> None:
        """Answers if the best result is at hand, or if it is time; fails if there is nothing to wait for."""
        urgent = at >= self._cutoff
        for rank in self._ranks:
            if urgent and rank.state is RankState.RUNNING and rank.payloads:
                self._complete(rank, at)
            if rank.state is RankState.HELD:
                self._answer(rank, at)
                return
            if rank.can_finish and not urgent and self.plan.answer is AnswerMode.BEST:
                return
        if all(rank.state is RankState.FAILED for rank in self._ranks):
            self._fail(self._primary_fault(), self._ranks[0].error, at)
        elif at >= self._limit:
            self._fail(Why.DEADLINE, None, at)

    def _answer(self, rank: Rank, at: int) -> None:
        if rank.index == 0:
            why = Why.PARTIAL if rank.partial else Why.PRIMARY
        elif self._ranks[0].state is RankState.FAILED:
            why = self._primary_fault()
        else:
            why = Why.FIRST if self.plan.answer is AnswerMode.FIRST and at < self._cutoff else Why.OVERDUE
        made_of = tuple(sorted(rank.payloads))
        left = (self._limit - at) / 1000
        self._note(at, "answer", rank.index)
        self._finish(Answer(rank.index, rank.result, why, made_of, rank.partial, at / 1000, left), at)

    def _primary_fault(self) -> Why:
        return Why.REFUSED if self._ranks[0].refused else Why.FAILED

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
        for rank in self._ranks:
            for member in rank.pending():
                self._cancel(rank, member, at)

    def _cancel(self, rank: Rank, member: int, at: int) -> None:
        rank.calls[member] = CallState.FAILED
        self._note(at, "cancel", rank.index, member)
        self._out.append(Cancel(rank.index, member))

    # Who is asked

    def _start_due(self, at: int) -> None:
        for failed in self._failed_ranks:
            successor = successor_of(failed, self._ranks)
            if successor is not None:
                self._start(successor, at)
        self._failed_ranks.clear()
        last = last_useful(self._ranks)
        if last.due is None:
            last.due = last.latest  # all behind it have failed: now it is the one that must return something
        for rank in self._ranks:
            if rank.state is RankState.WAITING and rank.due is not None and rank.due <= at:
                self._start(rank, at)

    def _start(self, rank: Rank, at: int) -> None:
        """Starts a rank, unless it is a hedge that the budget refuses."""
        hedge = is_hedge(rank, self._ranks)
        if hedge:
            verdict = ask_budget(self.budget, rank, self._ranks, at)
            self._note(at, verdict, rank.index)
            if verdict == "denied":
                if rank.due is not None and rank.due <= at:
                    rank.due = rank.latest if rank is last_useful(self._ranks) else None
                return
        rank.state = RankState.RUNNING
        remaining = (self._limit - at) / 1000
        for member, candidate in enumerate(rank.candidates):
            self._note(at, "start", rank.index, member)
            self._out.append(Start(rank.index, member, candidate, remaining, hedge))
