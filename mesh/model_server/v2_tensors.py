"""The V2 protocol's tensors to and from arrays: raw bytes and gRPC's typed contents."""

import math
import struct
from collections.abc import Sequence

import numpy as np

from mesh.model_server.dtypes import STRING, Array, DType


class SizeMismatch(Exception):
    """There are `got` bytes of data where the shape needs `expected`."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"Expected {expected}, got {got}")
        self.expected = expected
        self.got = got


def from_raw(data: bytes | memoryview, dtype: DType, shape: Sequence[int]) -> Array:
    """An array out of its little-endian bytes (strings: each with a 4-byte length). Raises SizeMismatch."""
    if dtype is STRING:
        return _strings(_split(data), shape)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(data) != expected:
        raise SizeMismatch(expected, len(data))
    return np.frombuffer(data, dtype.numpy).reshape(tuple(shape))


def from_values(values: Sequence[object], dtype: DType, shape: Sequence[int]) -> Array:
    """An array out of gRPC's typed contents. Raises SizeMismatch."""
    if dtype is STRING:
        return _strings([value for value in values if isinstance(value, bytes)], shape)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(values) * dtype.numpy.itemsize != expected:
        raise SizeMismatch(expected, len(values) * dtype.numpy.itemsize)
    # Narrow integers travel as 32-bit ones, and wrap as in C++.
    wide = np.int64 if dtype.v2_field in ("int_contents", "uint_contents") else dtype.numpy
    return np.array(values, wide).astype(dtype.numpy).reshape(tuple(shape))


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
            raise SizeMismatch(start, len(data))
        (length,) = struct.unpack_from("<I", data, offset)
        offset = start + length
        if offset > len(data):
            raise SizeMismatch(offset, len(data))
        elements.append(bytes(data[start:offset]))
    return elements


def _strings(elements: Sequence[bytes], shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    if len(elements) != count:
        raise SizeMismatch(count, len(elements))
    array = np.empty(count, STRING.numpy)
    array[:] = elements
    return array.reshape(tuple(shape))
