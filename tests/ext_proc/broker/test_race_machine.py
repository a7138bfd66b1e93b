"""Larger races under random orders of events and a clock that may oversleep."""

import json

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ext_proc.broker.effects import Answer, Fail, Fallback
from ext_proc.broker.plan import AnswerMode
from ext_proc.broker.record import RaceRecord, race_json
from ext_proc.broker.replay import replay, reproduces
from tests.ext_proc.broker.rules import Arena, mix, single

Moments = st.floats(0, 1)


class AnyOrder(RuleBasedStateMachine):
    """Events in any order; the rules are checked by the arena after each."""

    arena: Arena

    @initialize(
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=6),
        data=st.data(),
        limit=st.integers(1, 60),
        margin=st.integers(0, 5),
        answer=st.sampled_from(AnswerMode),
        level=st.sampled_from([0, 5, 30, 1e6]),
        fallback=st.booleans(),
        delay=st.integers(0, 70),
    )
    def race(
        self, sizes: list[int], data: st.DataObject, limit: int, margin: int, answer: AnswerMode,
        level: float, fallback: bool, delay: int,
    ) -> None:  # fmt: skip
        targets = [
            single(f"s{n}") if size == 1 else mix(*(f"m{n}{k}" for k in range(size))) for n, size in enumerate(sizes)
        ]
        estimates = data.draw(st.lists(st.integers(0, 80), min_size=len(sizes), max_size=len(sizes)))
        self.arena = Arena(
            targets,
            estimates,
            limit,
            margin_ms=margin,
            answer=answer,
            level_ms=level,
            fallback=fallback,
            arrival=86_400.25,
        )
        self.arena.begin(delay if delay >= 40 else 0)

    def over(self) -> bool:
        return self.arena.race.over

    @precondition(lambda self: not self.over())
    @rule(part=Moments)
    def time_passes(self, part: float) -> None:
        arena = self.arena
        arena.now = round(arena.now + (arena.wake_ms() - arena.now) * part, 3)
        arena.timer()

    @precondition(lambda self: not self.over())
    @rule()
    def wakes(self) -> None:
        self.arena.sleep_until_wake_up()

    @precondition(lambda self: not self.over())
    @rule(late=st.integers(1, 30))
    def oversleeps(self, late: int) -> None:
        self.arena.overslept = True
        self.arena.now = round(self.arena.wake_ms() + late, 3)
        self.arena.timer()

    @precondition(lambda self: not self.over() and self.arena.running)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["fine", "fine", "odd", "fails", "refused"]),
        oversleep=st.integers(0, 9),
    )
    def call_ends(self, data: st.DataObject, outcome: str, oversleep: int) -> None:
        call = data.draw(st.sampled_from(sorted(self.arena.running)))
        if oversleep == 9:  # the event is seen before a timer that was due earlier
            self.arena.overslept = True
            self.arena.now = round(self.arena.wake_ms() + 2, 3)
        if outcome in ("fails", "refused"):
            self.arena.fails(call, refused=outcome == "refused")
        else:
            self.arena.result(call, outcome)

    @precondition(lambda self: not self.over())
    @rule(impatience=st.integers(0, 9))
    def client_leaves(self, impatience: int) -> None:
        if impatience == 9:
            self.arena.client_leaves()

    @precondition(lambda self: self.over())
    @rule(rank=st.integers(0, 5))
    def late_events_do_nothing(self, rank: int) -> None:
        race = self.arena.race
        if rank < len(self.arena.targets):
            assert race.result(rank, 0, "late", 1e6) == []
            assert race.failed(rank, 0, "late", 1e6) == []
        assert race.timer(1e6) == []
        assert race.cancelled(1e6) == []

    @invariant()
    def the_record_replays_to_the_same_decisions(self) -> None:
        if not hasattr(self, "arena") or not self.over():
            return
        record = RaceRecord.model_validate(json.loads(f'{{"event": "race", {race_json(self.arena.race)}}}'))
        again = replay(record)
        assert reproduces(record, again)
        first, second = self.arena.race.outcome, again.outcome
        assert type(first) is type(second)
        if isinstance(first, Answer):
            assert isinstance(second, Answer)
            assert (first.rank, first.why, first.members, first.elapsed_ms) == (
                second.rank, second.why, second.members, second.elapsed_ms,
            )  # fmt: skip
        elif isinstance(first, Fail):
            assert isinstance(second, Fail)
            assert (first.why, first.left_ms) == (second.why, second.left_ms)
        elif isinstance(first, Fallback):
            assert isinstance(second, Fallback)
            assert first.cause == second.cause


AnyOrder.TestCase.settings = settings(max_examples=300, stateful_step_count=25)
test_any_order = AnyOrder.TestCase
