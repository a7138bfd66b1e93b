"""Answers alone and in company, compared bit for bit."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ext_proc.planning.exactness import (
    WHOLE,
    Answer,
    Array,
    Company,
    Difference,
    Verdict,
    company_sizes,
    compare,
    difference_of,
    differences,
)

F32 = np.float32


def answer(value: float = 1.0, label: int = 3) -> Answer:
    return Answer({"p": np.array([[value]], F32), "label": np.array([label])}, b"")


def after(value: float, ulps: int) -> Array:
    found = np.array(value, F32)
    for _ in range(ulps):
        found = np.nextafter(found, F32(inf))
    return found.reshape(1)


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, []), (2, [2]), (4, [2, 3, 4]), (10, [2, 3, 4, 7, 8, 10]), (16, [2, 3, 4, 7, 8, 15, 16])]
)
def test_company_is_of_powers_of_two_and_one_less(most: int, sizes: list[int]) -> None:
    assert company_sizes(most) == sizes


@pytest.mark.parametrize("start", [1.0, -1.0, 0.0, 1e-42, -3e38])
@pytest.mark.parametrize("ulps", [1, 3])
def test_units_in_the_last_place_are_steps_to_the_next_float(start: float, ulps: int) -> None:
    one, two = np.array([start], F32), after(start, ulps)
    found = difference_of(one, two)
    assert found is not None
    assert found.ulps == ulps
    assert found.absolute == abs(float(two[0]) - float(one[0])) > 0


def test_the_steps_go_through_the_zeros_which_are_two() -> None:
    assert difference_of(np.array([0.0], F32), np.array([-0.0], F32)) == Difference(0.0, 1)
    smallest = np.array([5e-324])
    assert difference_of(smallest, -smallest) == Difference(1e-323, 3)


@given(st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.uint64]), st.data())
def test_equal_bits_are_the_same_and_others_are_not(dtype: type[np.generic], data: st.DataObject) -> None:
    arrays = st_numpy.arrays(dtype, (2, 3))
    one, two = data.draw(arrays), data.draw(arrays)
    assert difference_of(one, one.copy()) is None
    assert (difference_of(one, two) is None) == (one.tobytes() == two.tobytes())
    assert difference_of(one, two) == difference_of(two, one)


def test_a_number_beside_none_is_infinitely_far_and_the_same_none_is_the_same() -> None:
    nan = np.array([np.nan, 1.0], F32)
    assert difference_of(nan, nan.copy()) is None
    found = difference_of(nan, np.array([2.0, 1.0], F32))
    assert found is not None
    assert found.absolute == inf
    infinite = difference_of(np.array([inf]), np.array([1.0]))
    assert infinite is not None
    assert infinite.absolute == inf


def test_integers_have_a_difference_and_no_units() -> None:
    big = np.array([2**63 - 1, 0])
    assert difference_of(big, np.array([-(2**63), 0])) == Difference(float(2**64 - 1), None)


@pytest.mark.parametrize("other", [np.zeros((2, 1), F32), np.zeros((1, 2)), np.zeros((1, 2), np.int32)])
def test_another_shape_or_type_is_infinitely_far(other: Array) -> None:
    assert difference_of(np.zeros((1, 2), F32), other) == Difference(inf, None)


def test_an_output_that_is_missing_and_replies_of_other_kinds_differ() -> None:
    assert differences(answer(), Answer({"p": np.array([[1.0]], F32)}, b"")) == {"label": Difference(inf, None)}
    words, others = Answer(None, b"a"), Answer(None, b"b")
    assert differences(words, words) == {}
    assert differences(words, others) == {WHOLE: Difference(inf, None)}
    assert differences(words, answer()) == {WHOLE: Difference(inf, None)}


def test_the_same_in_company() -> None:
    alone = [answer(1.0), answer(2.0)]
    company = [Company(row, 2, row, alone[row]) for row in (0, 1)]
    found = compare(alone, alone, company, distinct=2)
    assert (found.verdict, found.compared, found.sizes) == (Verdict.SAME, 2, (2,))
    assert [(each.output, each.different) for each in found.outputs] == [("p", 0), ("label", 0)]
    assert compare(alone, alone, company, distinct=1).verdict is Verdict.ONE_ROW


def test_the_largest_difference_is_told_with_its_place() -> None:
    alone = [answer(1.0), answer(2.0)]
    company = [
        Company(0, 2, 0, answer(1.0)),
        Company(1, 2, 1, answer(2.25)),
        Company(0, 4, 3, answer(1.5)),
        Company(1, 4, 0, answer(2.0, label=4)),
    ]
    found = compare(alone, alone, company, distinct=2)
    assert found.verdict is Verdict.DIFFERENT
    p, label = found.outputs
    assert (p.output, p.different, p.absolute, p.rows, p.place) == ("p", 2, 0.5, 4, 3)
    assert p.ulps == 2**22
    assert (label.output, label.different, label.absolute, label.ulps) == ("label", 1, 1.0, None)
    assert compare(alone, alone, company, distinct=2, has_ulps=False).outputs[0].ulps is None


def test_what_differs_alone_already_says_nothing_about_company() -> None:
    alone, again = [answer(1.0)], [answer(1.5)]
    found = compare(alone, again, [Company(0, 2, 0, answer(1.25))], distinct=2)
    assert found.verdict is Verdict.UNSTEADY
    assert found.unsteady == ("p",)
