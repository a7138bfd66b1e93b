"""Scenes of a race, one rule each; every arena checks all the other rules as well."""

import pytest

from ext_proc.broker.effects import Answer, Cancel, Fail, Fallback, Start, Why
from ext_proc.broker.plan import AnswerMode
from ext_proc.errors import CallError
from tests.ext_proc.broker.rules import FALLBACK, Arena, mix, single

A, B, C = (0, 0), (1, 0), (2, 0)


def seed_scene(**options: object) -> Arena:
    """The seed's own example: embedding 35 ms, svm 25 ms, bayes 15 ms, 50 ms to answer, margin 2 ms."""
    arena = Arena([single("embedding"), single("svm"), single("bayes")], [35, 25, 15], 50, margin_ms=2, **options)  # type: ignore[arg-type]
    arena.begin()
    return arena


def wait_until(arena: Arena, ms: float) -> None:
    while not arena.race.over and arena.wake_ms() <= ms:
        arena.sleep_until_wake_up()
    arena.now = ms


def answer_of(arena: Arena) -> Answer:
    assert isinstance(arena.final, Answer)
    return arena.final


def test_backups_start_on_the_schedule() -> None:
    arena = seed_scene()
    assert arena.started == {A}
    assert arena.wake_ms() == 23  # T - e1 - m
    arena.sleep_until_wake_up()
    assert arena.started == {A, B}
    assert arena.wake_ms() == 33  # T - e2 - m
    arena.sleep_until_wake_up()
    assert arena.started == {A, B, C}
    assert arena.wake_ms() == 50


def test_the_primary_answers_before_any_backup_is_needed() -> None:
    arena = seed_scene()
    wait_until(arena, 20)
    arena.result(A)
    assert answer_of(arena) == Answer(0, "fine", Why.PRIMARY, (0,), False, 20, 30)
    assert arena.started == {A}


def test_a_backup_is_held_until_the_margin_and_worse_ones_are_cancelled() -> None:
    arena = seed_scene()
    wait_until(arena, 40)
    arena.result(B)
    assert arena.final is None
    assert arena.running == {A}  # bayes is of no use any more
    assert arena.wake_ms() == 48
    arena.sleep_until_wake_up()
    assert answer_of(arena) == Answer(1, "fine", Why.OVERDUE, (0,), False, 48, 2)


def test_the_primary_overtakes_a_held_backup() -> None:
    arena = seed_scene()
    wait_until(arena, 40)
    arena.result(B)
    arena.now = 47.999
    arena.result(A, "better")
    assert answer_of(arena).payload == "better"
    assert answer_of(arena).why is Why.PRIMARY


def test_first_takes_the_first() -> None:
    arena = seed_scene(answer=AnswerMode.FIRST)
    wait_until(arena, 34)
    arena.result(C)
    assert answer_of(arena).rank == 2
    assert answer_of(arena).why is Why.FIRST


@pytest.mark.parametrize(("refused", "why"), [(False, Why.FAILED), (True, Why.REFUSED)])
def test_a_failed_primary_starts_its_backup_at_once(refused: bool, why: Why) -> None:
    arena = seed_scene()
    arena.now = 1
    arena.fails(A, refused=refused)
    assert arena.running == {B}
    arena.now = 26
    arena.result(B)
    assert answer_of(arena).why is why
    assert answer_of(arena).elapsed_ms == 26  # nothing better can finish, so it is not held


def test_all_failed_is_the_error_of_the_primary_at_once() -> None:
    arena = seed_scene()
    for now, call in ((1, A), (2, B), (3, C)):
        arena.now = now
        arena.fails(call)
    assert arena.final == Fail(Why.FAILED, "error of (0, 0)", 3, 47)


def test_all_failed_with_a_fallback() -> None:
    arena = Arena([single("a")], [5], 20, fallback=True)
    arena.begin()
    arena.fails(A)
    assert arena.final == Fallback(FALLBACK, Why.FAILED, 0, 20)


def test_nothing_by_the_limit() -> None:
    arena = seed_scene()
    wait_until(arena, 50)
    assert arena.final == Fail(Why.DEADLINE, None, 50, 0)


def test_a_result_within_the_margin_is_returned_at_once() -> None:
    arena = seed_scene()
    wait_until(arena, 49)
    arena.result(C)
    assert answer_of(arena).rank == 2
    assert answer_of(arena).left_ms == 1


def test_a_result_after_the_limit_is_no_answer() -> None:
    arena = seed_scene()
    wait_until(arena, 49)
    arena.now = 50.001  # the timer of the limit is late
    arena.result(A)
    assert arena.final == Fail(Why.DEADLINE, None, 50.001, -0.001)


def test_a_failure_after_the_limit_is_a_missed_deadline() -> None:
    arena = Arena([single("a")], [5], 20)
    arena.begin()
    arena.now = 20.5
    arena.fails(A)
    assert isinstance(arena.final, Fail)
    assert arena.final.why is Why.DEADLINE


def test_a_held_result_is_returned_even_where_the_clock_overslept() -> None:
    arena = seed_scene()
    wait_until(arena, 40)
    arena.result(B)
    arena.overslept = True
    arena.now = 55
    arena.timer()
    assert answer_of(arena).left_ms == -5


@pytest.mark.parametrize("fallback", [False, True])
def test_a_limit_that_has_passed_on_arrival_asks_nobody(fallback: bool) -> None:
    for limit, at in ((50.0, 50.0), (0.0, 0.0), (50.0, 80.0)):
        arena = Arena([single("a"), single("b")], [5, 5], limit, fallback=fallback)
        arena.begin(at)
        assert arena.final == Fail(Why.EXPIRED, None, at, limit - at)
        assert not arena.started


def test_time_lost_before_the_race_counts() -> None:
    arena = Arena([single("a"), single("b")], [5, 5], 20)
    arena.begin(12)
    assert arena.started == {A, B}


def test_a_client_that_leaves_cancels_everything() -> None:
    arena = seed_scene()
    wait_until(arena, 30)
    assert arena.running == {A, B}
    arena.client_leaves()
    assert arena.race.outcome is None


class TestBudget:
    def test_an_empty_budget_leaves_the_last_one_at_its_latest_start(self) -> None:
        arena = Arena([single("a"), single("b"), single("c")], [10, 20, 3], 50, level_ms=0)
        arena.begin()  # earns 5
        wait_until(arena, 45)
        assert arena.started == {A, C}
        assert [note for note in arena.race.log if note[1] in ("granted", "denied", "exempt")] == [
            (10_000, "denied", 1, -1),
            (30_000, "granted", 2, -1),
        ]

    def test_work_that_the_limit_cuts_off_is_neither_earned_nor_paid_for(self) -> None:
        """A cold primary whose load takes ten seconds works for the 50 ms of the call, and pays for as much."""
        arena = Arena([single("a"), single("b")], [10_000, 10_000], 50, level_ms=0)
        arena.begin()
        assert arena.started == {A, B}
        assert arena.budget.level_ms == 25 - 50
        assert arena.race.work_ms().primary == 50

    def test_the_last_one_waits_for_its_latest_start_and_runs_into_debt(self) -> None:
        arena = Arena([single("a"), single("b")], [10, 20], 50, level_ms=0)
        arena.begin()
        wait_until(arena, 28.9)
        assert arena.started == {A}
        wait_until(arena, 29)
        assert arena.started == {A, B}
        assert arena.budget.level_ms == -15

    def test_when_the_last_one_has_failed_the_one_before_it_is_the_last(self) -> None:
        arena = Arena([single("a"), single("b"), single("c")], [10, 20, 30], 60, level_ms=0)
        arena.begin()
        wait_until(arena, 29)
        assert arena.started == {A, C}
        arena.now = 31
        arena.fails(C)
        assert arena.started == {A, C}
        assert arena.wake_ms() == 39  # 60 - 20 - 1
        arena.sleep_until_wake_up()
        assert arena.started == {A, B, C}

    def test_a_replacement_of_a_failed_one_costs_nothing(self) -> None:
        arena = Arena([single("a"), single("b")], [10, 20], 50, level_ms=0)
        arena.begin()
        arena.fails(A)
        assert arena.running == {B}
        assert arena.budget.level_ms == 5
        work = arena.race.work_ms()
        assert (work.primary, work.hedged, work.rescue) == (10, 0, 20)

    def test_one_denied_as_a_replacement_keeps_its_own_start(self) -> None:
        arena = Arena([single("a"), single("b"), single("c"), single("d")], [10, 4, 20, 5], 90, level_ms=0)
        arena.begin()  # earns 5
        wait_until(arena, 10)
        assert arena.running == {A, B}  # paid 4
        arena.fails(B)
        assert arena.running == {A}  # c is denied: a runs, and the budget holds 1
        arena.budget.earn(100)  # other races
        arena.earned += 50
        wait_until(arena, 14)
        assert arena.running == {A, C}

    def test_a_denied_one_starts_when_the_better_one_fails(self) -> None:
        arena = Arena([single("a"), single("b"), single("c")], [10, 20, 30], 90, level_ms=0)
        arena.begin()
        wait_until(arena, 15)
        assert arena.started == {A}
        arena.fails(A)
        assert arena.running == {B}


class TestMixes:
    def test_members_start_together_and_are_combined_when_all_have_answered(self) -> None:
        arena = Arena([mix("a", "b"), single("c")], [10, 10], 50)
        arena.begin()
        assert arena.running == {(0, 0), (0, 1)}
        arena.now = 5
        arena.result((0, 1), "y")
        assert arena.final is None
        arena.result((0, 0), "x")
        assert answer_of(arena).payload == ("mixed", {0: "x", 1: "y"})
        assert answer_of(arena).why is Why.PRIMARY

    def test_at_the_margin_the_members_that_have_arrived_are_combined(self) -> None:
        arena = Arena([mix("a", "b")], [10], 50)
        arena.begin()
        arena.now = 12
        arena.result((0, 1), "y")
        assert arena.wake_ms() == 49
        arena.sleep_until_wake_up()
        assert answer_of(arena) == Answer(0, ("mixed", {1: "y"}), Why.PARTIAL, (1,), True, 49, 1)

    def test_a_mix_of_which_one_member_failed_is_partial(self) -> None:
        arena = Arena([single("z"), mix("a", "b")], [10, 10], 50)
        arena.begin()
        arena.fails(A)
        arena.fails((1, 0))
        arena.result((1, 1))
        assert answer_of(arena).partial
        assert answer_of(arena).why is Why.FAILED

    def test_members_that_do_not_fit_are_a_failure_with_that_error(self) -> None:
        arena = Arena([mix("a", "b")], [10], 50)
        arena.begin()
        arena.result((0, 0))
        arena.result((0, 1), "odd")
        assert isinstance(arena.final, Fail)
        assert isinstance(arena.final.error, CallError)


def test_a_thousand_pending_races_need_no_call_until_their_wake_up() -> None:
    arenas = [seed_scene() for _ in range(1000)]
    assert {arena.wake_ms() for arena in arenas} == {23}


def test_effects_come_answer_first() -> None:
    arena = seed_scene()
    wait_until(arena, 40)
    effects = arena.race.result(0, 0, "x", arena.arrival + 0.041)
    assert [type(effect) for effect in effects] == [Cancel, Cancel, Answer]


def test_a_start_says_what_time_is_left() -> None:
    arena = Arena([single("a")], [5], 20)
    assert arena.race.begin(arena.arrival + 0.004) == [Start(0, 0, single("a"), 16, False)]
