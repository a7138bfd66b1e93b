"""The rules of the time broker, checked from outside after every step of a race, whatever the order of events."""

from collections.abc import Sequence

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.effects import Answer, Cancel, Effect, Fail, Fallback, Start
from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix, Plan, RankedTarget, StaticAnswer, members
from ext_proc.broker.race import Race
from ext_proc.broker.schedule import Estimate
from ext_proc.errors import CallError, Reason

FALLBACK = StaticAnswer(b"{}", "application/json")


def single(name: str) -> Candidate:
    return Candidate(name)


def mix(*names: str, how: How = How.AVG) -> Mix:
    return Mix(tuple(map(Candidate, names)), how)


def combine(mixed: Mix, payloads: object) -> object:
    """A mix whose payloads include `odd` does not fit together."""
    assert isinstance(payloads, dict)
    if "odd" in payloads.values():
        raise CallError(Reason.INTERNAL, "the members do not fit together")
    return ("mixed", dict(payloads))


class Arena:
    """Drives one race at a virtual clock (ms) and keeps its own, independent books about it."""

    def __init__(
        self,
        targets: Sequence[RankedTarget],
        estimates: Sequence[float],
        limit_ms: float,
        *,
        margin_ms: float = 1,
        answer: AnswerMode = AnswerMode.BEST,
        level_ms: float = 1e9,
        fallback: bool = False,
        arrival: float = 1000.0,
    ) -> None:
        plan = Plan("m", tuple(targets), limit_ms, answer, fallback=FALLBACK if fallback else None)
        self.times = [
            tuple(Estimate(ms) for _ in members(target)) for target, ms in zip(targets, estimates, strict=True)
        ]
        self.budget = TokenBucket(0.5, max(level_ms, 500), level_ms)
        self.race = Race(plan, self.times, self.budget, combine, arrival=arrival, margin_ms=margin_ms)
        self.targets, self.limit, self.cutoff = targets, limit_ms, max(0.0, limit_ms - margin_ms)
        self.answer_mode, self.fallback, self.arrival = answer, fallback, arrival
        self.earned = level_ms
        self.now = 0.0
        self.overslept = False
        self.running: set[tuple[int, int]] = set()
        self.started: set[tuple[int, int]] = set()
        self.arrived: dict[int, dict[int, str]] = {}
        self.ended: dict[int, set[int]] = {}
        self.ranks_failed: set[int] = set()
        self.final: Effect | None = None
        self.gone = False
        self.hedged_ms = 0.0
        self.exempt: list[int] = []

    # Inputs

    def begin(self, at: float = 0.0) -> None:
        self.now = at
        self._absorb(self.race.begin(self._clock()))

    def result(self, call: tuple[int, int], payload: str = "fine") -> None:
        rank, member = call
        in_time = self.now <= self.limit
        self._ends(call)
        if in_time:
            self.arrived.setdefault(rank, {})[member] = payload
        self._rank_over(rank)
        self._absorb(self.race.result(rank, member, payload, self._clock()))

    def fails(self, call: tuple[int, int], *, refused: bool = False) -> None:
        self._ends(call)
        self._rank_over(call[0])
        self._absorb(self.race.failed(*call, f"error of {call}", self._clock(), refused=refused))

    def timer(self) -> None:
        self._absorb(self.race.timer(self._clock()))

    def client_leaves(self) -> None:
        self.gone = True
        self._absorb(self.race.cancelled(self._clock()))

    def wake_ms(self) -> float:
        wake = self.race.wake_up
        assert wake is not None
        return round((wake - self.arrival) * 1000, 3)

    def sleep_until_wake_up(self) -> None:
        self.now = max(self.now, self.wake_ms())
        self.timer()

    # Books

    def _clock(self) -> float:
        return self.arrival + self.now / 1000

    def _ends(self, call: tuple[int, int]) -> None:
        self.running.discard(call)
        self.ended.setdefault(call[0], set()).add(call[1])

    def _rank_over(self, rank: int) -> None:
        size = len(members(self.targets[rank]))
        payloads = self.arrived.get(rank, {})
        if len(self.ended.get(rank, ())) == size and (
            not payloads or (isinstance(self.targets[rank], Mix) and "odd" in payloads.values())
        ):
            self.ranks_failed.add(rank)

    def failed_ranks(self) -> set[int]:
        """Ranks that can give no result: from T - m on, also mixes whose arrived members do not fit together."""
        urgent = self.now >= self.cutoff
        unfit = {rank for rank, payloads in self.arrived.items() if "odd" in payloads.values()}
        return self.ranks_failed | {rank for rank in unfit if urgent and isinstance(self.targets[rank], Mix)}

    def held(self) -> list[int]:
        """Ranks with a complete, fitting result."""
        sizes = [len(members(target)) for target in self.targets]
        return [
            rank
            for rank, size in enumerate(sizes)
            if len(self.ended.get(rank, ())) == size and self.arrived.get(rank) and rank not in self.ranks_failed
        ]

    def _absorb(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert not self.gone or isinstance(effect, Cancel), "nothing but cancels after the client left"
            match effect:
                case Start():
                    self._on_start(effect)
                case Cancel(rank, member):
                    assert (rank, member) in self.running, "only a running call is cancelled, and only once"
                    self.running.discard((rank, member))
                case Answer() | Fail() | Fallback():
                    assert self.final is None, "exactly one answer"
                    self.final = effect
                    self._on_final(effect)
        if self.final is not None or self.gone:
            assert not self.running, "every loser is cancelled"
            assert self.race.over
            assert self.race.wake_up is None
        else:
            assert not self.race.over
            assert self.now <= self.wake_ms() <= self.limit, "a wake-up is set, never after the limit"
            assert self.now < self.limit
            assert not (self.held() and self.now >= self.cutoff), "a held result is returned at T - m"
            assert self.running, "somebody is always running until the race is over"

    def _on_start(self, start: Start) -> None:
        call = (start.rank, start.member)
        assert self.final is None
        assert call not in self.started, "no candidate is started twice"
        assert self.now < self.limit
        assert abs(start.remaining_ms - (self.limit - self.now)) < 2e-3
        assert all(start.rank < rank for rank in self.held()), "nothing worse than a held result is started"
        better = any(rank < start.rank for rank, _ in self.running)
        assert start.hedge == better
        self.started.add(call)
        self.running.add(call)
        if start.rank == 0:
            self.earned += 0.5 * min(self.times[0][0].ms, self.limit)
        if start.hedge:
            cost = self.times[start.rank][0].ms
            self.hedged_ms += min(cost, self.limit)
            if start.member == 0 and self.race.log and (self._us(), "exempt", start.rank, -1) in self.race.log:
                self.exempt.append(start.rank)
                alive = [rank for rank in range(len(self.targets)) if rank not in self.failed_ranks()]
                assert start.rank == alive[-1], "only the last-ranked may exceed the budget"
                latest = max(0.0, self.limit - cost - (self.limit - self.cutoff))
                assert self.now >= round(latest, 3), "and only at its latest start"
        exempt_ms = sum(sum(min(one.ms, self.limit) for one in self.times[rank]) for rank in self.exempt)
        assert self.hedged_ms <= self.earned + exempt_ms + 1e-6, "the budget is kept"

    def _us(self) -> int:
        return round(self.now * 1000)

    def _on_final(self, final: Answer | Fail | Fallback) -> None:
        assert abs(final.elapsed_ms - self.now) < 2e-3
        if isinstance(final, Answer):
            if not self.overslept:
                assert self.now <= self.limit, "an answer is never given after T"
            held = self.held()
            assert all(final.rank <= rank for rank in held), "never worse-ranked than a held result"
            assert set(final.members) == set(self.arrived[final.rank])
            assert final.partial == (len(final.members) < len(members(self.targets[final.rank])))
            if isinstance(self.targets[final.rank], Mix):
                assert final.payload == ("mixed", self.arrived[final.rank])
            else:
                assert final.payload == self.arrived[final.rank][0]
            if self.answer_mode is AnswerMode.BEST and self.now < self.cutoff:
                better = set(range(final.rank))
                assert better <= self.ranks_failed, "a better one could still have finished"
        elif self.now < self.limit:
            assert self.failed_ranks() == set(range(len(self.targets))), "an early error only when all have failed"
            if isinstance(final, Fail):
                assert final.error is not None
        else:
            assert not self.held(), "no error while a result is held"
