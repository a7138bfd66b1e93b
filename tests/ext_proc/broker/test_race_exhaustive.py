"""Small races, every order of events: a model checker over the pure race."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from ext_proc.broker.effects import Answer, Fail, Fallback
from ext_proc.broker.plan import AnswerMode, RankedTarget
from tests.ext_proc.broker.rules import Arena, mix, single

Step = tuple[object, ...]


def possible_steps(arena: Arena, path: Sequence[Step], outcomes: Sequence[str]) -> Iterator[Step]:
    """Every thing that can happen next: each running call may end now, or time passes."""
    for call in sorted(arena.running):
        for outcome in outcomes:
            yield (outcome, call)
    yield ("wake",)
    if path[-1][0] in ("wake", "begin"):  # one moment between two wake-ups stands for all of them
        yield ("between",)


def apply(arena: Arena, step: Step) -> None:
    match step:
        case ("begin",):
            arena.begin()
        case ("wake",):
            arena.sleep_until_wake_up()
        case ("between",):
            arena.now = round((arena.now + arena.wake_ms()) / 2, 3)
            arena.timer()
        case ("fine" | "odd" as payload, call):
            arena.result(call, payload)  # type: ignore[arg-type]
        case ("fails", call):
            arena.fails(call)  # type: ignore[arg-type]


def explore(make: Callable[[], Arena], outcomes: Sequence[str] = ("fine", "fails")) -> list[Arena]:
    """Plays every path to its end, by playing it again from the start, and returns the finished races."""
    ends: list[Arena] = []
    stack: list[tuple[Step, ...]] = [(("begin",),)]
    while stack:
        path = stack.pop()
        arena = make()
        for step in path:
            apply(arena, step)
        if arena.final is not None:
            ends.append(arena)
            continue
        assert len(path) < 60, "the race does not end"
        stack.extend((*path, step) for step in possible_steps(arena, path, outcomes))
    return ends


SCHEDULES = {
    "one after the other": (20, [5, 4, 3]),
    "all at once": (4, [9, 9, 9]),
    "the last one early": (20, [12, 2, 17]),
    "tight": (10, [6, 5, 2]),
}


@pytest.mark.parametrize("answer", AnswerMode)
@pytest.mark.parametrize("level", [0, 4, 1e9], ids=["empty", "small", "rich"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_three_candidates(schedule: str, level: float, answer: AnswerMode) -> None:
    limit, estimates = SCHEDULES[schedule]
    targets = [single("a"), single("b"), single("c")]
    ends = explore(lambda: Arena(targets, estimates, limit, answer=answer, level_ms=level))
    kinds = {(type(end.final), getattr(end.final, "rank", None)) for end in ends}
    assert kinds >= {(Answer, 0), (Answer, 1), (Answer, 2), (Fail, None)}, "every outcome was met"
    assert len(ends) > 30


@pytest.mark.parametrize("answer", AnswerMode)
def test_four_candidates_with_little_budget(answer: AnswerMode) -> None:
    targets = [single(name) for name in "abcd"]
    ends = explore(lambda: Arena(targets, [5, 8, 4, 3], 12, answer=answer, level_ms=2))
    assert {end.final.rank for end in ends if isinstance(end.final, Answer)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "targets",
    [[mix("a", "b"), single("c")], [single("a"), mix("b", "c")], [mix("a", "b")], [mix("a", "b"), mix("c", "d")]],
    ids=["mix first", "mix as backup", "mix alone", "two mixes"],
)
@pytest.mark.parametrize("fallback", [False, True])
def test_mixes(targets: list[RankedTarget], fallback: bool) -> None:
    ends = explore(lambda: Arena(targets, [6, 4][: len(targets)], 12, fallback=fallback))
    answers = [end.final for end in ends if isinstance(end.final, Answer)]
    assert {answer.partial for answer in answers} == {False, True}
    assert any(isinstance(end.final, Fallback if fallback else Fail) for end in ends)


def test_members_that_do_not_fit_make_the_mix_fail() -> None:
    targets = [mix("a", "b"), single("c")]
    ends = explore(lambda: Arena(targets, [6, 4], 12), outcomes=("fine", "odd"))
    rescued = [end for end in ends if 0 in end.ranks_failed and isinstance(end.final, Answer)]
    assert rescued
    assert all(end.final.rank == 1 for end in rescued if isinstance(end.final, Answer))


def test_no_margin_and_a_limit_below_the_margin() -> None:
    for limit, margin in ((8, 0), (1, 2)):
        ends = explore(lambda: Arena([single("a"), single("b")], [5, 3], limit, margin_ms=margin))  # noqa: B023
        assert any(isinstance(end.final, Answer) for end in ends)
