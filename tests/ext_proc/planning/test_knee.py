"""The knee of a curve, on curves whose knee is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.planning.knee import knee


def test_two_straight_pieces_have_it_where_they_meet() -> None:
    assert knee([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 13, 23]) == 3


def test_the_queue_of_one_server_has_it_where_the_paper_says() -> None:
    """1 / (1 - load): the furthest from the chord is where the slope is that of the chord."""
    loads = [n / 1000 for n in range(951)]
    found = knee(loads, [1 / (1 - load) for load in loads])
    chord = (1 / (1 - 0.95) - 1) / 0.95
    assert found is not None
    assert loads[found] == pytest.approx(1 - chord**-0.5, abs=0.001)


@given(st.floats(0.1, 100), st.floats(-100, 100), st.floats(0.1, 100))
def test_units_do_not_matter(width: float, start: float, height: float) -> None:
    xs, ys = [0.0, 1, 2, 3, 4, 5], [0.0, 1, 2, 3, 13, 23]
    assert knee([start + width * x for x in xs], [height * y for y in ys]) == 3


@pytest.mark.parametrize(
    ("gained", "paid"),
    [
        ([], []),
        ([1, 2], [1, 2]),
        ([1, 2, 3], [5, 5, 5]),
        ([1, 2, 3], [1, 2, 3]),
        ([0, 1, 2], [0, 5, 6]),
        ([1, 1, 1], [1, 2, 3]),
    ],
)
def test_what_does_not_bend_upwards_has_none(gained: list[float], paid: list[float]) -> None:
    assert knee(gained, paid) is None
