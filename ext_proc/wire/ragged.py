"""Tensors whose rows are made longer or shorter in one dimension, wherever their data lie, without reading a value.

Dimensions are counted as the tensor's shape has them: 0 are the rows, 1 is the first of a row's own. `tail` is the
shape of a row.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite, prod
from typing import Any

import numpy as np

from ext_proc.wire.json_text import Items, Reader, compact
from ext_proc.wire.layouts import Binary, Prefixed, StringFields, Varints
from ext_proc.wire.protobuf.fields import len_field, varint
from mesh.tensors.dtypes import HALF, STRING, DType

Value = int | float | str
"""What new elements are; 0 stands for the zero of any type: of strings the empty one, of truth values false."""

_LISTS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]]')
_LISTS_AND_COMMAS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\],]')
_BLANK = " \t\n\r"


def changed(tail: Sequence[int], dim: int, size: int) -> tuple[int, ...]:
    """The tail with this size of the dimension."""
    return (*tail[: dim - 1], size, *tail[dim:])


def resized_binary(
    layout: Binary, tail: Sequence[int], rows: int, data: Any, dim: int, size: int, one: bytes
) -> memoryview:
    """Bytes of such a layout with this size of the dimension; `one` is a new element."""
    pieces = _resized(tail, rows, data, dim, size, lambda count: replace(layout, elements=count), one.__mul__)
    return memoryview(b"".join(pieces))


def resized_items(layout: Items, tail: Sequence[int], rows: int, data: str, dim: int, size: int, one: str) -> str:
    """Items of a flat array with this size of the dimension; `one` is a new element."""
    between = layout.separator
    pieces = _resized(
        tail, rows, data, dim, size, lambda count: replace(layout, per_row=count), lambda n: between.join([one] * n)
    )
    return between.join([piece for piece in pieces if piece])


def _resized(
    tail: Sequence[int],
    rows: int,
    data: Any,
    dim: int,
    size: int,
    of: Callable[[int], Any],
    new: Callable[[int], Any],
) -> list[Any]:
    """The pieces; `of` is the layout whose rows have so many elements, `new` so many new ones."""
    outer, own, inner = rows * prod(tail[: dim - 1]), tail[dim - 1], prod(tail[dim:])
    if not outer or own == size:
        return [data]
    if size < own:
        kept: list[Any] = of(inner).cut(data, [size, own - size] * outer)[::2]
        return kept
    added = new((size - own) * inner)
    return [piece for block in of(own * inner).cut(data, [1] * outer) for piece in (block, added)]


def resized_lists(text: str, tail: Sequence[int], dim: int, size: int, one: str) -> str:
    """Rows of nested lists with this size of the dimension; `one` is a new element, and no list is empty."""
    own = tail[dim - 1]
    added = f",{_nested(tail[dim:], one)}" * (size - own)
    out: list[str] = []
    kept = depth = items = 0
    end = -1  # of the items that stay in the list that is open
    for found in (_LISTS_AND_COMMAS if size < own else _LISTS).finditer(text):
        at = found.start()
        mark = text[at]
        if mark == "[":
            depth += 1
            items = 1 if depth == dim else items
        elif mark == "]":
            if depth == dim:
                last = _before_blanks(text, at, kept)
                out += (text[kept : end if size < own else last], added)
                kept = last
            depth -= 1
        elif mark == "," and depth == dim:
            if items == size:
                end = at
            items += 1
    return "".join((*out, text[kept:]))


def _before_blanks(text: str, at: int, kept: int) -> int:
    """Where the blanks begin that end at `at`."""
    while at > kept and text[at - 1] in _BLANK:
        at -= 1
    return at


def _nested(tail: Sequence[int], one: str) -> str:
    for size in reversed(tail):
        one = f"[{','.join([one] * size)}]"
    return one


def in_objects(text: str, name: str, change: Callable[[str], str]) -> str:
    """Objects, one after the other, with the value of this member changed. Raises ValueError for what is no such."""
    reader, out, kept = Reader(text), [], 0
    while reader.at < len(text):
        if reader.at:
            reader.comma()
        for member in reader.members():
            start = reader.at
            reader.value()
            if member == name:
                out += [text[kept:start], change(text[start : reader.at])]
                kept = reader.at
        reader.blanks()
    return "".join((*out, text[kept:]))


def element(layout: Binary, dtype: DType | None, value: Value) -> bytes:
    """A new element of this layout, and of this dtype where it is known. Raises ValueError if it cannot be one."""
    if value == 0:
        return layout.zero()
    if isinstance(layout, Prefixed | StringFields):
        if not isinstance(value, str):
            raise ValueError("a number among strings")
        data = value.encode()
        return len_field(layout.number, data) if isinstance(layout, StringFields) else _prefixed(data)
    if dtype is None:
        raise ValueError("a type that is not written here")
    array = np.array(_number(dtype, value), dtype.numpy)
    if not isinstance(layout, Varints):
        return array.tobytes()
    number = int(array.view(np.uint16) if dtype is HALF else array)
    return varint(number & (1 << 64) - 1)


def element_text(dtype: DType, value: Value) -> str:
    """A new element in JSON. Raises ValueError if it cannot be one."""
    if dtype is STRING:
        if value != 0 and not isinstance(value, str):
            raise ValueError("a number among strings")
        return compact(value or "")
    number = _number(dtype, value)
    return compact(bool(number) if dtype.numpy.kind == "b" else number)


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def _number(dtype: DType, value: Value) -> int | float:
    """The value as one of a dtype that is no string. Raises ValueError."""
    kind = dtype.numpy.kind
    if isinstance(value, str):
        raise ValueError("a string among numbers")
    if kind == "f":
        with np.errstate(over="ignore"):
            if not isfinite(dtype.numpy.type(value)):
                raise ValueError("a number that is too large")
        return value
    limits = (0, 1) if kind == "b" else (np.iinfo(dtype.numpy.name).min, np.iinfo(dtype.numpy.name).max)
    if value != int(value) or not limits[0] <= value <= limits[1]:
        raise ValueError("a number that the type does not have")
    return int(value)
