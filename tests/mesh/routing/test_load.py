import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.routing.load import Excess, Loads, NodeLoad
from mesh.routing.settings import RoutingSettings


def loads(weights: list[float], **changes: float) -> tuple[Loads, list[NodeLoad]]:
    book = Loads(RoutingSettings(**{"load_floor": 1.0, "load_step": 1.0, "call_seconds": 0.1, **changes}))  # type: ignore[arg-type]
    nodes = [NodeLoad(weight) for weight in weights]
    book.population(nodes)
    return book, nodes


def test_a_pick_fades_with_the_time_constant() -> None:
    book, (node,) = loads([1.0])
    book.tick(5.0)
    book.picked(node)
    assert book.of(node) == pytest.approx(1.0)
    book.tick(5.1)
    assert book.of(node) == pytest.approx(math.exp(-1))
    book.tick(1_000.0)
    assert book.of(node) == pytest.approx(0.0)


def test_a_steady_rate_is_seen_as_rate_times_duration() -> None:
    book, (node,) = loads([1.0], call_seconds=0.5)
    for number in range(20_000):  # 200 calls a second for 100 s: the scale is brought back many times
        book.tick(number / 200)
        book.picked(node)
    assert book.of(node) == pytest.approx(200 * 0.5, rel=0.01)


def test_a_clock_that_goes_back_fades_nothing() -> None:
    book, (node,) = loads([1.0])
    book.tick(100.0)
    book.picked(node)
    book.tick(0.0)
    assert book.of(node) == pytest.approx(1.0)


def test_a_started_call_counts_once_and_until_it_ends() -> None:
    book, (node,) = loads([1.0])
    book.tick(1.0)
    book.picked(node)
    book.started(node)
    assert book.of(node) == pytest.approx(1.0)
    book.tick(60.0)
    assert book.of(node) == pytest.approx(1.0)
    book.finished(node)
    book.finished(node)  # one too many, as after a reload: never below nothing
    assert book.of(node) == pytest.approx(0.0)


def test_at_low_load_nobody_is_over_the_bound() -> None:
    book, (busy, *_) = loads([1.0] * 10, load_floor=4.0)
    book.tick(0.0)
    for _ in range(3):
        book.started(busy)
        book.tick(0.0)
    assert book.pressure(busy) == (False, 3)
    book.started(busy)
    book.tick(0.0)
    assert book.pressure(busy)[0]


def test_the_load_of_a_dead_node_is_no_part_of_the_average() -> None:
    book, (dead, alive, other) = loads([1.0] * 3, load_factor=1.5)
    for _ in range(9):
        book.started(dead)
    book.started(alive)
    book.started(alive)
    book.tick(0.0)
    assert not book.pressure(alive)[0]
    dead.counted = False
    book.recount()
    book.tick(0.0)
    assert book.pressure(alive) == (False, 2)  # ceil(1.5 x 3 / 2) = 3
    book.started(alive)
    book.tick(0.0)
    assert book.pressure(alive)[0]
    assert not book.pressure(other)[0]


def test_a_heavier_node_may_carry_more_and_reaches_its_steps_later() -> None:
    book, (light, heavy) = loads([1.0, 3.0], load_factor=1.01)
    for _ in range(3):
        book.started(light)
        book.started(heavy)
    book.tick(0.0)
    assert book.pressure(light) == (Excess.BOUND, 6)
    assert book.pressure(heavy) == (False, 2)


@given(
    st.lists(st.sampled_from([0.5, 1.0, 4.0]), min_size=1, max_size=8),
    st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=120),
    st.sampled_from([1.05, 1.25, 2.0]),
)
def test_with_known_calls_some_node_is_always_within_its_bound_and_none_is_brought_over_it(
    weights: list[float], steps: list[tuple[bool, int]], factor: float
) -> None:
    book, nodes = loads(weights, load_factor=factor)
    running = 0
    for start, number in steps:
        node = nodes[number % len(nodes)]
        book.tick(0.0)
        if not start:
            running -= min(1, node.in_flight)
            book.finished(node)
            continue
        within = [other for other in nodes if not book.pressure(other)[0]]
        assert within
        taker = node if node in within else within[0]
        book.started(taker)
        running += 1
        share = taker.weight / sum(weights)
        assert taker.in_flight <= max(1, math.ceil(factor * running * share + 1e-9))


def test_a_pick_whose_duration_is_known_counts_for_as_long_and_then_goes() -> None:
    book, (node,) = loads([1.0])
    book.tick(1.0)
    book.picked(node, 5.0)
    assert book.of(node) == 1.0
    book.tick(5.9)
    assert book.of(node) == 1.0
    book.tick(6.0)
    assert book.of(node) == 0.0


def test_a_lease_takes_over_a_pick_whose_duration_was_known() -> None:
    book, (node, other) = loads([1.0, 1.0])
    book.tick(1.0)
    book.picked(node, 5.0)
    book.started(node)
    assert book.of(node) == 1.0
    book.tick(60.0)
    assert book.of(node) == 1.0, "until it ends, whatever others took"
    book.finished(node)
    assert book.of(node) == book.of(other) == 0.0


def test_a_lease_on_another_node_takes_over_nothing() -> None:
    book, (node, other) = loads([1.0, 1.0])
    book.tick(1.0)
    book.picked(node, 5.0)
    book.started(other)
    assert (book.of(node), book.of(other)) == (1.0, 1.0)
    book.tick(6.0)
    assert (book.of(node), book.of(other)) == (0.0, 1.0)


def test_beyond_the_bound_of_expected_ends_calls_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.routing.load.MAX_EXPECTED", 2)
    book, (node,) = loads([1.0])
    book.tick(1.0)
    for _ in range(3):
        book.picked(node, 5.0)
    assert book.of(node) == pytest.approx(3.0)
    book.tick(2.0)
    assert book.of(node) == pytest.approx(2.0, abs=0.001)


def test_a_node_that_left_takes_what_was_expected_of_it_along() -> None:
    book, (gone, stays) = loads([1.0, 1.0])
    book.tick(1.0)
    book.picked(gone, 5.0)
    book.picked(stays, 5.0)
    gone.counted = False
    book.population([stays])
    book.tick(10.0)
    assert (book.of(gone), book.of(stays)) == (0.0, 0.0)
    book.picked(stays, 5.0)
    assert book.of(stays) == 1.0
