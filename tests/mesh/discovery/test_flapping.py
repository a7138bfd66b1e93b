from hypothesis import given
from hypothesis import strategies as st

from mesh.discovery.flapping import FIRST_HOLD, FREE_RETURNS, LONGEST_HOLD, WINDOW, FlapDamper


def flap(damper: FlapDamper, times: int, now: float) -> float:
    """Node a goes and comes back so often, a second apart; b stays."""
    for _ in range(times):
        damper.see(["b"], now)
        damper.see(["a", "b"], now + 1.0)
        now += 2.0
    return now - 1.0


def test_a_node_that_comes_back_now_and_then_is_let_in_at_once() -> None:
    damper = FlapDamper()
    damper.see(["a", "b"], 0.0)
    assert damper.held(flap(damper, FREE_RETURNS, 1.0)) == set()


def test_the_next_return_is_held_back_and_then_let_in() -> None:
    damper = FlapDamper()
    damper.see(["a", "b"], 0.0)
    now = flap(damper, FREE_RETURNS + 1, 1.0)
    assert damper.held(now) == {"a"}
    assert damper.due(now) == now + FIRST_HOLD
    assert damper.held(now + FIRST_HOLD) == set()


def test_each_further_return_is_held_back_twice_as_long_up_to_a_limit() -> None:
    holds = []
    for returns in range(FREE_RETURNS + 1, FREE_RETURNS + 7):
        damper = FlapDamper()
        damper.see(["a", "b"], 0.0)
        now = flap(damper, returns, 1.0)
        due = damper.due(now)
        assert due is not None
        holds.append(due - now)
    assert holds == [FIRST_HOLD, 2 * FIRST_HOLD, 4 * FIRST_HOLD, LONGEST_HOLD, LONGEST_HOLD, LONGEST_HOLD]


def test_departures_are_forgotten_after_a_while() -> None:
    damper = FlapDamper()
    damper.see(["a", "b"], 0.0)
    now = flap(damper, FREE_RETURNS, 1.0) + WINDOW
    assert damper.held(flap(damper, 1, now)) == set()


def test_nobody_is_held_back_where_nobody_would_be_left() -> None:
    damper = FlapDamper()
    for time in range(20):
        damper.see(["a"] if time % 2 else [], float(time))
    assert damper.held(19.0) == set()


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.floats(0.0, 30.0)), max_size=30))
def test_who_is_held_back_is_present_and_comes_in_within_the_longest_hold(steps: list[tuple[set[str], float]]) -> None:
    damper, now, present = FlapDamper(), 0.0, set[str]()
    for present, pause in steps:
        now += pause
        damper.see(present, now)
        held = damper.held(now)
        assert held < present or not held
    assert damper.held(now + LONGEST_HOLD) == set()
    assert damper.due(now + LONGEST_HOLD) is None
