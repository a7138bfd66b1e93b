"""Batch-time curves: of timed batches, between sizes, and as a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import TbmsError
from ext_proc.planning.curve import Curve, Point, curve_of, order, sizes_up_to, straight


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, [1]), (2, [1, 2]), (10, [1, 2, 4, 8, 10]), (32, [1, 2, 4, 8, 16, 32]), (33, [1, 2, 4, 8, 16, 32, 33])],
)
def test_sizes_double_up_to_the_largest(most: int, sizes: list[int]) -> None:
    assert sizes_up_to(most) == sizes


def test_sizes_are_timed_up_and_down_in_turn() -> None:
    assert order([1, 2, 4], 3) == [1, 2, 4, 4, 2, 1, 1, 2, 4]


def test_a_point_is_the_median_and_the_median_distance_from_it() -> None:
    curve = curve_of([(4, 0.020), (1, 0.010), (4, 0.022), (1, 0.010), (4, 0.500)])
    assert curve.points == (Point(1, 0.010, 0.0, 2), Point(4, 0.022, pytest.approx(0.002), 3))


def test_between_two_sizes_time_runs_straight_and_below_the_first_it_stays() -> None:
    curve = Curve((Point(2, 0.010), Point(4, 0.030), Point(8, 0.030)))
    assert [curve.seconds(rows) for rows in (1, 2, 3, 4, 6, 8)] == pytest.approx([0.01, 0.01, 0.02, 0.03, 0.03, 0.03])
    with pytest.raises(ValueError, match="beyond"):
        curve.seconds(9)


def test_a_curve_is_cut_at_a_size_that_it_has_and_at_one_between() -> None:
    curve = Curve((Point(1, 0.010, 0.001, 5), Point(4, 0.040, 0.002, 5), Point(8, 0.080)))
    assert curve.up_to(4).points == curve.points[:2]
    assert curve.up_to(6).points == (*curve.points[:2], Point(6, pytest.approx(0.060), 0.0, 0))
    assert curve.up_to(6).max_rows == 6


@given(st.floats(0.0005, 1), st.floats(0, 0.1), st.integers(2, 512))
def test_the_line_of_a_line_is_that_line(constant: float, slope: float, most: int) -> None:
    curve = Curve(tuple(Point(rows, constant + slope * rows) for rows in sizes_up_to(most)))
    line = curve.line()
    assert (line.constant, line.slope) == pytest.approx((constant, slope), abs=1e-9)
    assert line.error < 1e-6


def test_a_line_has_neither_a_start_nor_a_slope_below_nothing() -> None:
    falling = Curve((Point(1, 0.030), Point(2, 0.020), Point(4, 0.010))).line()
    assert (falling.constant, falling.slope) == (pytest.approx(0.020), 0.0)
    assert falling.error == pytest.approx(1.0)
    steep = Curve((Point(1, 0.001), Point(2, 0.010), Point(4, 0.040))).line()
    assert steep.constant == 0.0
    assert steep.slope > 0


@pytest.mark.parametrize(
    "points",
    [
        (),
        (Point(2, 0.1), Point(1, 0.1)),
        (Point(1, 0.1), Point(1, 0.2)),
        (Point(0, 0.1),),
        (Point(65_537, 0.1),),
        (Point(1, 0.0),),
        (Point(1, float("nan")),),
    ],
)
def test_what_is_no_curve_is_refused(points: tuple[Point, ...]) -> None:
    with pytest.raises(TbmsError):
        Curve(points)


def test_a_straight_curve_may_be_of_one_size() -> None:
    assert straight(0.02, 0.001, 1).points == (Point(1, 0.021),)
    assert straight(0.02, 0.001, 11).seconds(6) == pytest.approx(0.026)
