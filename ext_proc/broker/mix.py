"""Mixes: the outputs of several models combined into one, element by element."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ext_proc.broker.plan import How
from ext_proc.errors import CallError, Reason

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class MemberOutputs:
    """What one member of a mix answered.

    `outputs` by name, in the order of the reply; each an array of the shape and dtype that the reply gives. `member`
    is its title, for errors; `weight` is over 0.
    """

    member: str
    weight: float
    outputs: Mapping[str, Array]


def combine(how: How, parts: Sequence[MemberOutputs]) -> dict[str, Array]:
    """The outputs of a mix by name, with names, order, shapes and dtypes of the first of `parts`.

    `max` takes the greatest element, `avg` the mean by weight, over the parts that are given: where
    members are missing, the weights of the others count for the whole. Averages of integers are
    rounded to the nearest (halves to even), since clients read the dtype that the model declares. A
    NaN of one member is a NaN of the mix. Raises CallError as `check` does.
    """
    check(parts)
    combined = {}
    for name in parts[0].outputs:
        arrays = [part.outputs[name] for part in parts]
        if len(arrays) == 1:
            combined[name] = arrays[0]
        elif how is How.MAX:
            combined[name] = np.maximum.reduce(arrays)
        else:
            combined[name] = _average(arrays, [part.weight for part in parts])
    return combined


def check(parts: Sequence[MemberOutputs]) -> None:
    """Whether the parts can be combined. Raises CallError(BROKEN_MODEL) that names the member and the output that
    differ."""
    first, *others = parts
    for name, array in first.outputs.items():
        if array.dtype.kind not in "fiu":
            raise _unfit(first.member, name, f"is {array.dtype}, and only float and integer outputs can be mixed")
    for part in others:
        _check(first, part)


def _average(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    dtype = arrays[0].dtype
    wide = dtype.kind in "iu" and dtype.itemsize == 8  # a double holds 53 bits of an integer, a long double 64
    exact: Any = np.longdouble if wide else np.float64
    total = sum(weights)
    mean: Array = np.zeros(arrays[0].shape, exact)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, without a warning
        for array, weight in zip(arrays, weights, strict=True):
            mean += array.astype(exact) * exact(weight / total)
        if dtype.kind == "f":
            return mean.astype(dtype)
    bounds = np.iinfo(dtype)
    top = exact(bounds.max)
    if int(top) > bounds.max:  # where long double is only a double
        top = np.nextafter(top, exact(0))
    return np.clip(np.rint(mean), exact(bounds.min), top).astype(dtype)


def _check(first: MemberOutputs, part: MemberOutputs) -> None:
    for name in first.outputs:
        if name not in part.outputs:
            raise _unfit(part.member, name, f"is missing, {first.member} has it")
    for name, array in part.outputs.items():
        like = first.outputs.get(name)
        if like is None:
            raise _unfit(part.member, name, f"is not an output of {first.member}")
        if array.dtype != like.dtype:
            raise _unfit(part.member, name, f"is {array.dtype}, that of {first.member} is {like.dtype}")
        if array.shape != like.shape:
            raise _unfit(part.member, name, f"has shape {array.shape}, that of {first.member} has {like.shape}")


def _unfit(member: str, output: str, rule: str) -> CallError:
    return CallError(Reason.BROKEN_MODEL, f"Mix: output {output!r} of member {member} {rule}.")
