"""The V2 protocol's tensors to and from arrays: raw bytes and gRPC's typed contents."""

import math
import struct
from collections.abc import Sequence
from enum import Enum

import numpy as np

from mesh.tensors.dtypes import STRING, Array, DType
from mesh.tensors.numbers import from_numbers


class DataFault(Enum):
    """How data can fail to be the tensor that is declared; the value says it in words."""

    BYTE_SIZE = "the data are not as long as the shape needs"
    SHAPE = "the shape is not that of an array"
    CUT_LENGTH = "the length of a string is cut off"
    CUT_STRING = "a string is cut off"
    FEW_STRINGS = "there are fewer strings than the shape needs"
    MANY_STRINGS = "there are more strings than the shape needs"


class DataError(Exception):
    """Data that do not fill their shape.

    `expected` and `got` are bytes of the whole tensor (BYTE_SIZE), bytes of one length or string (CUT_LENGTH,
    CUT_STRING) or numbers of strings (FEW_STRINGS, MANY_STRINGS); None for a SHAPE.
    """

    def __init__(self, fault: DataFault, expected: int | None = None, got: int | None = None) -> None:
        super().__init__(fault.value if expected is None else f"{fault.value}. Expected {expected}, got {got}")
        self.fault = fault
        self.expected = expected
        self.got = got


def from_raw(data: bytes | memoryview, dtype: DType, shape: Sequence[int]) -> Array:
    """An array of this shape out of its little-endian bytes, in row-major order. Raises DataError.

    A string is its length (4 bytes) and its bytes. The array may be a read-only view of `data`.
    """
    if dtype is STRING:
        return _strings(_split(data), shape)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(data) != expected:
        raise DataError(DataFault.BYTE_SIZE, expected, len(data))
    return shaped(np.frombuffer(data, dtype.numpy), shape)


def from_values(values: Sequence[object], dtype: DType, shape: Sequence[int]) -> Array:
    """An array of this shape out of gRPC's typed contents, in row-major order. Raises DataError."""
    if dtype is STRING:
        return _strings([value for value in values if isinstance(value, bytes)], shape)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(values) * dtype.numpy.itemsize != expected:
        raise DataError(DataFault.BYTE_SIZE, expected, len(values) * dtype.numpy.itemsize)
    # Narrow integers travel as 32-bit ones, and wrap as in C++.
    wide = np.int64 if dtype.v2_field in ("int_contents", "uint_contents") else dtype.numpy
    return shaped(from_numbers(values, wide).astype(dtype.numpy), shape)


def shaped(flat: Array, shape: Sequence[int]) -> Array:
    """The elements in their shape, which they are known to fill. Raises DataError."""
    try:
        return flat.reshape(tuple(shape))
    except ValueError as error:  # more dimensions, or larger ones beside an empty one, than an array can have
        raise DataError(DataFault.SHAPE) from error


def to_raw(array: Array) -> bytes:
    """The bytes of an array, as `from_raw` reads them."""
    if array.dtype != object:
        return np.ascontiguousarray(array).tobytes()
    elements: list[bytes] = array.ravel().tolist()
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def _split(data: bytes | memoryview) -> list[bytes]:
    elements = []
    offset = 0
    while offset < len(data):
        start = offset + 4
        if start > len(data):
            raise DataError(DataFault.CUT_LENGTH, 4, len(data) - offset)
        (length,) = struct.unpack_from("<I", data, offset)
        offset = start + length
        if offset > len(data):
            raise DataError(DataFault.CUT_STRING, length, len(data) - start)
        elements.append(bytes(data[start:offset]))
    return elements


def _strings(elements: Sequence[bytes], shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    if len(elements) != count:
        fault = DataFault.FEW_STRINGS if len(elements) < count else DataFault.MANY_STRINGS
        raise DataError(fault, count, len(elements))
    array = np.empty(count, STRING.numpy)
    array[:] = elements
    return shaped(array, shape)
