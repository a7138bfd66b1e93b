"""How the rows of a tensor lie in its bytes or its text, so that they can be cut apart and put together unread.

A layout is part of what calls must have in common to share a batch, and compares and hashes by its fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct, error
from typing import Any, Protocol, TypeVar

import numpy as np

from ext_proc.wire.protobuf.fields import MAX_VARINT_BYTES
from ext_proc.wire.protobuf.spans import tag_of
from mesh.tensors.dtypes import Array

Data = TypeVar("Data")
Bytes = bytes | memoryview

_LENGTH = Struct("<I").unpack_from


class Misfit(ValueError):
    """Data that do not hold the rows that they should."""


class Layout(Protocol[Data]):
    """One way in which rows lie in data."""

    def cut(self, data: Data, rows: Sequence[int]) -> list[Data]:
        """Pieces of so many rows each, one after the other. Raises Misfit unless they are all that there is."""

    def join(self, pieces: Sequence[Data]) -> Sequence[Data]:
        """What to write one after the other for the data of which `cut` would give these pieces."""


class _Binary:
    """What layouts of bytes have in common: pieces are views, and stand one after the other."""

    __slots__ = ()

    def cut(self, data: Bytes, rows: Sequence[int]) -> list[Bytes]:
        """See `Layout`."""
        view = memoryview(data)
        if len(rows) == 1:
            self.ends(view, rows)
            return [view]
        ends = self.ends(view, list(accumulate(rows)))
        return [view[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def join(self, pieces: Sequence[Bytes]) -> Sequence[Bytes]:
        """See `Layout`."""
        return pieces

    def ends(self, data: memoryview, marks: Sequence[int]) -> Sequence[int]:
        """Where each of these many rows ends, counted from the first; the last mark is the end of the data."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Fixed(_Binary):
    """Elements of one width; a row has `size` bytes."""

    size: int

    def ends(self, data: memoryview, marks: Sequence[int]) -> Sequence[int]:
        """See `_Binary`."""
        size = self.size
        if marks[-1] * size != len(data):
            raise Misfit(f"{len(data)} bytes, where {marks[-1]} rows have {marks[-1] * size}")
        return [mark * size for mark in marks]

    def count(self, data: Bytes, width: int) -> int:
        """Elements of `width` bytes in the data. Raises Misfit."""
        if len(data) % width:
            raise Misfit(f"{len(data)} bytes, which are no whole number of values of {width}")
        return len(data) // width


@dataclass(frozen=True, slots=True)
class Varints(_Binary):
    """Protobuf's packed varints; a row has `elements` of them."""

    elements: int

    def ends(self, data: memoryview, marks: Sequence[int]) -> Sequence[int]:
        """See `_Binary`."""
        ends = varint_ends(data)
        if len(ends) != marks[-1] * self.elements:
            raise Misfit(f"{len(ends)} values, where {marks[-1]} rows have {marks[-1] * self.elements}")
        if not self.elements:
            return [0] * len(marks)
        chosen: list[int] = ends[np.array(marks) * self.elements - 1].tolist()
        return chosen


def varint_ends(data: Bytes) -> Array:
    """Where each varint ends. Raises Misfit if one is longer than it may be, or the last one has no end."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) < 0x80) + 1
    sizes = np.diff(ends, prepend=0)
    if len(data) and (not len(ends) or ends[-1] != len(data) or sizes.max() > MAX_VARINT_BYTES):
        raise Misfit("values that are no varints")
    return ends


@dataclass(frozen=True, slots=True)
class Prefixed(_Binary):
    """V2's raw strings, each after its length in four bytes; a row has `elements` of them."""

    elements: int

    def ends(self, data: memoryview, marks: Sequence[int]) -> Sequence[int]:
        """See `_Binary`."""
        size = len(data)
        if marks[-1] * self.elements * 4 > size:
            raise Misfit(f"{size} bytes, which cannot hold {marks[-1] * self.elements} strings")
        at = done = 0
        ends = []
        try:
            for mark in marks:
                for _ in range((mark - done) * self.elements):
                    at += 4 + _LENGTH(data, at)[0]
                done = mark
                ends.append(at)
        except error:
            raise Misfit("a string that is cut off") from None
        if at != size:
            raise Misfit(f"{at} bytes of strings in {size} bytes")
        return ends


@dataclass(frozen=True, slots=True)
class StringFields(_Binary):
    """Protobuf's repeated strings: fields of one number, below 16, one after the other; a row has `elements`."""

    number: int
    elements: int

    def ends(self, data: memoryview, marks: Sequence[int]) -> Sequence[int]:
        """See `_Binary`."""
        ends = self.string_ends(data)
        if len(ends) != marks[-1] * self.elements:
            raise Misfit(f"{len(ends)} strings, where {marks[-1]} rows have {marks[-1] * self.elements}")
        if not self.elements:
            return [0] * len(marks)
        return [ends[mark * self.elements - 1] for mark in marks]

    def string_ends(self, data: Bytes) -> list[int]:
        """Where each string's field ends. Raises Misfit."""
        tag, at, size = tag_of(self.number), 0, len(data)
        ends = []
        try:
            while at < size:
                if data[at] != tag:
                    raise Misfit("another field among the strings")
                length = data[at + 1]
                at += 2
                if length >= 0x80:
                    length &= 0x7F
                    shift = 7
                    while True:
                        byte = data[at]
                        at += 1
                        if shift > 63:
                            raise Misfit("a string of an impossible length")
                        length |= (byte & 0x7F) << shift
                        if byte < 0x80:
                            break
                        shift += 7
                at += length
                ends.append(at)
        except IndexError:
            at = size + 1
        if at > size:
            raise Misfit("a string that is cut off")
        return ends


AnyLayout = Layout[Any]
