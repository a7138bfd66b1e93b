"""Many numbers between arrays and messages, by parts: a thread that does it lets others work in between."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mesh.tensors.dtypes import Array

_PART = 1 << 15  # numbers that are converted at a time: some milliseconds, in which the interpreter is held


def from_numbers(values: Sequence[Any], dtype: "np.dtype[Any] | type[np.generic]", most: int | None = None) -> Array:
    """The array of the first `most` of these numbers, or of all.

    Raises OverflowError or ValueError where the dtype cannot hold one.
    """
    count = len(values) if most is None else min(len(values), most)
    array: Array = np.empty(count, dtype)
    for start in range(0, count, _PART):
        end = min(count, start + _PART)
        array[start:end] = values[start:end]
    return array


def extend(field: Any, array: Array) -> None:
    """Appends the elements of an array, in row-major order, to a repeated field of a message."""
    flat = array.ravel()
    for start in range(0, len(flat), _PART):
        field.extend(flat[start : start + _PART].tolist())
