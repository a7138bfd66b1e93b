from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from ext_proc.broker.mix import MemberOutputs, combine
from ext_proc.broker.plan import How
from ext_proc.errors import CallError, Reason


def part(member: str, weight: float = 1.0, **outputs: Any) -> MemberOutputs:
    return MemberOutputs(member, weight, {name: np.asarray(value) for name, value in outputs.items()})


def f32(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_max_and_average() -> None:
    parts = [part("a", p=f32(0.25, 0.75)), part("b", p=f32(0.5, 0.25))]
    assert combine(How.MAX, parts)["p"].tolist() == [0.5, 0.75]
    assert combine(How.AVG, parts)["p"].tolist() == [0.375, 0.5]
    assert combine(How.AVG, parts)["p"].dtype == np.float32


def test_weights_of_those_that_answered_count_for_the_whole() -> None:
    three = [part("a", 3, p=f32(1.0)), part("b", 1, p=f32(5.0)), part("c", 4, p=f32(7.0))]
    assert combine(How.AVG, three)["p"].tolist() == [4.5]
    assert combine(How.AVG, three[:2])["p"].tolist() == [2.0]
    assert combine(How.AVG, three[2:])["p"].tolist() == [7.0]


def test_integers_stay_integers_rounded_to_nearest() -> None:
    parts = [part("a", n=np.array([1, 2, 7], np.int32)), part("b", n=np.array([2, 3, 8], np.int32))]
    mixed = combine(How.AVG, parts)["n"]
    assert mixed.dtype == np.int32
    assert mixed.tolist() == [2, 2, 8]


@pytest.mark.parametrize("dtype", ["i8", "u8", "i1", "u2"])
def test_integers_at_their_bounds_do_not_wrap(dtype: str) -> None:
    bounds = np.iinfo(dtype)
    edge = np.array([bounds.min, bounds.max], dtype)
    for weights in ((1.0, 1.0), (0.1, 0.7)):
        mixed = combine(
            How.AVG, [MemberOutputs("a", weights[0], {"n": edge}), MemberOutputs("b", weights[1], {"n": edge})]
        )["n"]
        assert mixed.dtype == np.dtype(dtype)
        assert int(mixed[0]) <= bounds.min + abs(bounds.min) // 2**50
        assert int(mixed[1]) >= bounds.max - bounds.max // 2**50


def test_nan_and_infinity_are_not_hidden() -> None:
    parts = [part("a", p=f32(np.nan, np.inf, np.inf)), part("b", p=f32(1, 1, -np.inf))]
    assert np.isnan(combine(How.MAX, parts)["p"][0])
    assert str(combine(How.AVG, parts)["p"].tolist()) == "[nan, inf, nan]"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (part("b", p=f32(1)), "output 'p' of member b has shape (1,), that of a has (2,)"),
        (part("b", p=np.zeros(2)), "output 'p' of member b is float64, that of a is float32"),
        (part("b", q=f32(1, 2)), "output 'p' of member b is missing, a has it"),
        (part("b", p=f32(1, 2), q=f32(1)), "output 'q' of member b is not an output of a"),
    ],
)
def test_what_differs_is_named(other: MemberOutputs, says: str) -> None:
    with pytest.raises(CallError) as caught:
        combine(How.MAX, [part("a", p=f32(1, 2)), other])
    assert caught.value.reason is Reason.BROKEN_MODEL
    assert says in caught.value.message


@pytest.mark.parametrize(
    "value", [np.array(["x"]), np.array([b"x"]), np.array([True]), np.array([1j]), np.array([None])]
)
def test_only_numbers_are_mixed(value: Any) -> None:
    with pytest.raises(CallError, match=r"output 'label' of member a is .* only float and integer"):
        combine(How.AVG, [part("a", label=value), part("b", label=value)])


shapes = hnp.array_shapes(max_dims=3, max_side=4)
dtypes = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u4"])


@given(st.data(), dtypes, shapes, st.lists(st.integers(1, 1000), min_size=2, max_size=4))
def test_a_mix_lies_between_its_members(data: st.DataObject, dtype: str, shape: Any, weights: list[int]) -> None:
    if dtype.startswith("f"):
        values: Any = st.floats(-1000, 1000, width=16)
    else:
        bounds = np.iinfo(dtype)
        values = st.integers(bounds.min, bounds.max)
    arrays = [data.draw(hnp.arrays(dtype, shape, elements=values)) for _ in weights]
    parts = [
        MemberOutputs(f"m{n}", weight, {"y": array})
        for n, (weight, array) in enumerate(zip(weights, arrays, strict=True))
    ]
    low, high = np.minimum.reduce(arrays), np.maximum.reduce(arrays)
    assert np.array_equal(combine(How.MAX, parts)["y"], high)
    mean = combine(How.AVG, parts)["y"]
    assert (mean.dtype, mean.shape) == (np.dtype(dtype), shape)
    slack = 0 if dtype.startswith(("i", "u")) and dtype != "i8" else np.abs(high.astype(float)) * 1e-12 + 1e-9
    assert (mean.astype(float) >= low.astype(float) - slack).all()
    assert (mean.astype(float) <= high.astype(float) + slack).all()
