"""Whether a model gives the same bits to a row alone and in company: the answers compared, output by output.

What the batcher moves it moves exactly; what a model makes of a row may depend on the rows beside it, on their number
and on its place among them (a scale that is taken over the whole batch, a kernel that is chosen by the batch's size).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WHOLE = "(whole reply)"
"""Stands for the outputs of a reply whose values cannot be told apart, such as strings: compared as bytes."""


class Answer(NamedTuple):
    """What one row got: its outputs by name, or, where they are not all numbers, None; and its reply in bytes."""

    outputs: Mapping[str, Array] | None
    body: bytes


class Company(NamedTuple):
    """One row in a batch: which row, how many rows the batch had, its place from 0 on, and what it got."""

    row: int
    rows: int
    place: int
    answer: Answer


class Verdict(StrEnum):
    """What is known of a model."""

    SAME = "same"
    DIFFERENT = "different"
    UNSTEADY = "unsteady"
    """A row gets different answers even alone."""
    ONE_ROW = "one-row"
    """Nothing differed, but all rows are the same one: whether others beside it matter is not known."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two answers are apart in one output. `ulps`: units in the last place, for floats of a known type."""

    absolute: float
    ulps: int | None


@dataclass(frozen=True, slots=True)
class OutputFinding:
    """One output over all rows in company: how many differ, by how much at most, and where that was."""

    output: str
    different: int
    absolute: float = 0.0
    ulps: int | None = None
    rows: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What the comparison came to. `unsteady`: outputs that differ between two answers to one row alone."""

    verdict: Verdict
    distinct_rows: int
    compared: int
    sizes: tuple[int, ...]
    outputs: tuple[OutputFinding, ...]
    unsteady: tuple[str, ...]


def company_sizes(max_rows: int) -> list[int]:
    """The sizes of batches in which rows are compared: powers of two, what is one short of them, and the largest."""
    powers = [1 << power for power in range(1, max_rows.bit_length())]
    sizes = {size for power in powers for size in (power - 1, power)}
    return sorted(size for size in {*sizes, max_rows} if 2 <= size <= max_rows)


def compare(
    alone: Sequence[Answer],
    again: Sequence[Answer],
    company: Iterable[Company],
    *,
    distinct: int,
    has_ulps: bool = True,
) -> Finding:
    """`alone` and `again` are answers to each row by itself, `company` those in batches.

    `distinct`: how many of the rows differ. `has_ulps`: whether the protocol tells the types of floats.
    """
    unsteady = {name for one, two in zip(alone, again, strict=True) for name in differences(one, two)}
    counts: dict[str, int] = {name: 0 for answer in alone for name in _names(answer)}
    worst: dict[str, tuple[Difference, Company]] = {}
    compared = 0
    sizes = set()
    for member in company:
        compared += 1
        sizes.add(member.rows)
        for name, difference in differences(alone[member.row], member.answer).items():
            counts[name] = counts.get(name, 0) + 1
            if name not in worst or difference.absolute > worst[name][0].absolute:
                worst[name] = (difference, member)
    outputs = tuple(_output(name, count, worst.get(name), has_ulps) for name, count in counts.items())
    verdict = Verdict.SAME if distinct > 1 else Verdict.ONE_ROW
    if worst:
        verdict = Verdict.DIFFERENT
    if unsteady:
        verdict = Verdict.UNSTEADY
    return Finding(verdict, distinct, compared, tuple(sorted(sizes)), outputs, tuple(sorted(unsteady)))


def differences(one: Answer, two: Answer) -> dict[str, Difference]:
    """The outputs in which two answers are not the same bits."""
    if one.outputs is None or two.outputs is None:
        return {} if one.body == two.body else {WHOLE: Difference(inf, None)}
    found = {}
    for name in {**one.outputs, **two.outputs}:
        if name not in one.outputs or name not in two.outputs:
            found[name] = Difference(inf, None)
        elif (difference := difference_of(one.outputs[name], two.outputs[name])) is not None:
            found[name] = difference
    return found


def difference_of(one: Array, two: Array) -> Difference | None:
    """None for the same bits. Arrays of other shapes or types are infinitely far apart, as a number is from none."""
    if one.dtype != two.dtype or one.shape != two.shape:
        return Difference(inf, None)
    bits = np.dtype(f"u{one.dtype.itemsize}")
    first, second = (np.ascontiguousarray(array).reshape(-1) for array in (one, two))
    at = first.view(bits) != second.view(bits)
    if not at.any():
        return None
    first, second = first[at], second[at]
    if one.dtype.kind != "f":
        return Difference(float(max(abs(a - b) for a, b in zip(first.tolist(), second.tolist(), strict=True))), None)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(first.astype(np.float64) - second.astype(np.float64))
    apart[np.isnan(first) != np.isnan(second)] = inf
    apart[np.isnan(apart)] = 0.0  # two of nothing, in other bits
    low, high = (_rank(array.view(bits)) for array in (first, second))
    return Difference(float(apart.max()), int((np.maximum(low, high) - np.minimum(low, high)).max()))


def _rank(bits: Array) -> Array:
    """Floats by their order: neighbours are one apart, and so are the two zeros."""
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _names(answer: Answer) -> Iterable[str]:
    return (WHOLE,) if answer.outputs is None else answer.outputs


def _output(name: str, count: int, worst: tuple[Difference, Company] | None, has_ulps: bool) -> OutputFinding:
    if worst is None:
        return OutputFinding(name, count)
    difference, member = worst
    ulps = difference.ulps if has_ulps else None
    return OutputFinding(name, count, difference.absolute, ulps, member.rows, member.place)
