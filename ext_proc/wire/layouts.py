"""How the rows of a tensor lie in its bytes or its text, so that they can be cut apart and put together unread.

A layout is part of what calls must have in common to share a batch, and compares and hashes by its fields.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from struct import Struct, error
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ext_proc.errors import CallError
from ext_proc.wire.protobuf.fields import MAX_VARINT_BYTES, len_field, read_varint
from ext_proc.wire.protobuf.spans import tag_of
from mesh.tensors.dtypes import Array

Data = TypeVar("Data")
Bytes = bytes | memoryview
# Whole numbers: Python's, or numpy's.
Ends = Sequence[Any] | NDArray[np.intp]

_FEW = 100  # bytes, up to which Python's own loop is faster than numpy's start
_LENGTH = Struct("<I").unpack_from


class Misfit(ValueError):
    """Data that do not hold the rows that they should."""


class Layout(Protocol[Data]):
    """One way in which rows lie in data."""

    def cut(self, data: Data, rows: Sequence[int]) -> list[Data]:
        """Pieces of so many rows each, one after the other. Raises Misfit unless they are all that there is."""

    def join(self, pieces: Sequence[Data]) -> Sequence[Data]:
        """What to write one after the other for the data of which `cut` would give these pieces."""


@dataclass(frozen=True, slots=True)
class Binary(ABC):
    """A layout of bytes: the values one after the other; a row has `elements` of them. Pieces are views."""

    elements: int

    def cut(self, data: Bytes, rows: Sequence[int]) -> list[Bytes]:
        """See `Layout`."""
        elements, view = self.elements, memoryview(data)
        marks = list(accumulate(rows))
        wanted = marks[-1] * elements
        if len(rows) == 1:
            found, pieces = self.count(data, wanted), [view]
        else:
            ends = self.ends(data, wanted)
            found = len(ends)
            if found == wanted:
                places = [ends[mark * elements - 1] if mark * elements else 0 for mark in marks]
                pieces = [view[start:end] for start, end in zip([0, *places], places, strict=False)]
        if found != wanted:
            raise Misfit(f"{found} values, where {marks[-1]} rows have {wanted}")
        return cast(list[Bytes], pieces)

    def join(self, pieces: Sequence[Bytes]) -> Sequence[Bytes]:
        """See `Layout`."""
        return pieces

    @abstractmethod
    def ends(self, data: Bytes, most: int) -> Ends:
        """Where each value ends; the last one ends where the data do. Raises Misfit if it does not.

        Of more than `most` values not all need be told.
        """

    def count(self, data: Bytes, most: int) -> int:
        """How many values there are: as `ends` tells."""
        return len(self.ends(data, most))

    @abstractmethod
    def zero(self) -> bytes:
        """The value that stands for none."""


@dataclass(frozen=True, slots=True)
class Fixed(Binary):
    """Values of one width in bytes."""

    width: int

    def ends(self, data: Bytes, most: int) -> Ends:
        """See `Binary`."""
        if len(data) % self.width:
            raise Misfit(f"{len(data)} bytes, which are no whole number of values of {self.width} bytes")
        return range(self.width, len(data) + 1, self.width)

    def zero(self) -> bytes:
        """See `Binary`."""
        return bytes(self.width)


@dataclass(frozen=True, slots=True)
class Varints(Binary):
    """Protobuf's packed varints."""

    def ends(self, data: Bytes, most: int) -> Ends:
        """See `Binary`."""
        if len(data) > _FEW:
            return np.flatnonzero(_last_bytes(data)) + 1
        ends = [at for at, byte in enumerate(data, 1) if byte < 0x80]
        longest = max(map(sub, ends, [0, *ends]), default=0)
        if longest > MAX_VARINT_BYTES or len(data) != (ends[-1] if ends else 0):
            raise Misfit("values that are no varints")
        return ends

    def count(self, data: Bytes, most: int) -> int:
        """See `Binary`."""
        return int(np.count_nonzero(_last_bytes(data))) if len(data) > _FEW else len(self.ends(data, most))

    def zero(self) -> bytes:
        """See `Binary`."""
        return b"\0"


def _last_bytes(data: Bytes) -> Array:
    """Which bytes end a varint. Raises Misfit if one is longer than it may be, or the last one has no end."""
    more = np.frombuffer(data, np.uint8) >= 0x80
    # Ten in a row, without a list of all places: of pairs, pairs of pairs and so on.
    two = more[:-1] & more[1:]
    four = two[:-2] & two[2:]
    eight = four[:-4] & four[4:]
    if more[-1] or (eight[: len(two) - 8] & two[8:]).any():
        raise Misfit("values that are no varints")
    last: Array = ~more
    return last


@dataclass(frozen=True, slots=True)
class Prefixed(Binary):
    """V2's raw strings, each after its length in four bytes."""

    def ends(self, data: Bytes, most: int) -> Ends:
        """See `Binary`."""
        at, size = 0, len(data)
        ends: list[int] = []
        try:
            while at < size and len(ends) <= most:
                at += 4 + _LENGTH(data, at)[0]
                ends.append(at)
        except error:
            at = size + 1
        if at > size:
            raise Misfit("a string that is cut off")
        return ends

    def zero(self) -> bytes:
        """See `Binary`."""
        return bytes(4)


@dataclass(frozen=True, slots=True)
class StringFields(Binary):
    """Protobuf's repeated strings: fields of one number, below 16, with their tags and lengths."""

    number: int

    def ends(self, data: Bytes, most: int) -> Ends:
        """See `Binary`."""
        tag, at, size = tag_of(self.number), 0, len(data)
        ends: list[int] = []
        try:
            while at < size and len(ends) <= most:
                if data[at] != tag:
                    raise Misfit("another field among the strings")
                length, at = data[at + 1], at + 2
                if length >= 0x80:
                    length, at = read_varint(data, at - 1)
                at += length
                ends.append(at)
        except (IndexError, CallError):
            at = size + 1
        if at > size or at < 0:
            raise Misfit("a string that is cut off")
        return ends

    def zero(self) -> bytes:
        """See `Binary`."""
        return len_field(self.number, b"")


AnyLayout = Layout[Any]
