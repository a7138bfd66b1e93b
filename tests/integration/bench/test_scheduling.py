"""The scheduling benchmark's loads and simple batchers, and the scheduler beside them, all in virtual time."""

from statistics import mean

import pytest

from integration.bench.scheduling.benchmark import outcome
from integration.bench.scheduling.loads import Arrival, Kind, Load, load
from integration.bench.scheduling.simple import RULES, answered_in_time


def calls(model: str, *deadlines: float, at: float = 0.0) -> list[Arrival]:
    return [Arrival(at, deadline, model, 1) for deadline in deadlines]


def two(*arrivals: Arrival, slots: int = 1) -> Load:
    """Batches of up to two rows, 10 ms each, and 5 ms for a switch; nothing ran before."""
    kinds = {name: Kind(name, 0.010, 0.0, 2, 0.005) for name in "ab"}
    return Load(kinds, slots, 1.0, sorted(arrivals, key=lambda call: call.at))


def test_a_load_is_the_same_for_the_same_number_only() -> None:
    assert load(3) == load(3) != load(4)
    assert {load(number).slots for number in range(30)} == {1, 2, 4}


def test_a_load_asks_for_what_it_says() -> None:
    for number in range(8):
        some = load(number)
        used = 0.0
        for kind in some.kinds.values():
            rows = sum(call.rows for call in some.calls if call.model == kind.name)
            used += rows / kind.max_rows * kind.seconds(kind.max_rows)
        assert used / 6.0 / some.slots == pytest.approx(some.demand, rel=0.15)


@pytest.mark.parametrize("name", RULES)
def test_a_simple_batcher_counts_what_it_answers_in_time(name: str) -> None:
    """The first two end at 15 ms, the third at 25."""
    assert answered_in_time(two(*calls("a", 0.015, 0.015, 0.025)), RULES[name]) == 3
    assert answered_in_time(two(*calls("a", 0.015, 0.015, 0.024)), RULES[name]) == 2
    assert answered_in_time(two(*calls("a", 0.014)), RULES[name]) == 0
    assert answered_in_time(two(*calls("a", 0.015), *calls("b", 0.015), slots=2), RULES[name]) == 2


def test_each_rule_chooses_by_its_own_measure() -> None:
    """A call of `a` first; then two of `b` that have little time, and two more of `a`."""
    some = two(*calls("a", 0.050), *calls("b", 0.031, 0.031, at=0.001), *calls("a", 0.046, 0.046, at=0.002))
    assert answered_in_time(some, RULES["most urgent"]) == 5
    assert answered_in_time(some, RULES["until empty"]) == 3


def test_the_scheduler_stands_up_to_the_best_of_them() -> None:
    """Which knows all costs, and is chosen afterwards; 54 and 24 are two that were lost before (decision 186)."""
    outcomes = [outcome(load(number)) for number in (3, 6, 8, 24, 26, 54)]
    assert min(one.vs_best for one in outcomes) >= 0.9
    assert mean(one.vs_best for one in outcomes) >= 1.0
    assert min(one.on_a_way_vs_best for one in outcomes) >= 0.85
