"""The V2 protocol's tensors to and from arrays: raw bytes and gRPC's typed contents."""

import math
import struct
from collections.abc import Sequence

import numpy as np

from mesh.tensors.dtypes import STRING, Array, DType


class DataError(Exception):
    """Data that do not fill their shape. The template has places for {prefix}, {input} and {model}."""

    def __init__(self, template: str) -> None:
        super().__init__(template)
        self.template = template


def _size_mismatch(expected: int, got: int) -> DataError:
    return DataError(
        "{prefix}input byte size mismatch for input '{input}' for model '{model}'. "
        f"Expected {expected}, got {got}"
    )


def from_raw(data: bytes | memoryview, dtype: DType, shape: Sequence[int]) -> Array:
    """An array out of its little-endian bytes (strings: each with a 4-byte length). Raises DataError."""
    if dtype is STRING:
        return _strings(_split(data), shape)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(data) != expected:
        raise _size_mismatch(expected, len(data))
    return shaped(np.frombuffer(data, dtype.numpy), shape)


def from_values(values: Sequence[object], dtype: DType, shape: Sequence[int]) -> Array:
    """An array out of gRPC's typed contents. Raises DataError."""
    if dtype is STRING:
        return _strings([value for value in values if isinstance(value, bytes)], shape)
    expected = math.prod(shape) * dtype.numpy.itemsize
    if len(values) * dtype.numpy.itemsize != expected:
        raise _size_mismatch(expected, len(values) * dtype.numpy.itemsize)
    # Narrow integers travel as 32-bit ones, and wrap as in C++.
    wide = np.int64 if dtype.v2_field in ("int_contents", "uint_contents") else dtype.numpy
    return shaped(np.array(values, wide).astype(dtype.numpy), shape)


def shaped(flat: Array, shape: Sequence[int]) -> Array:
    """The elements in their shape, which they are known to fill. Raises DataError."""
    try:
        return flat.reshape(tuple(shape))
    except ValueError as error:  # more dimensions, or larger ones beside an empty one, than an array can have
        raise DataError("{prefix}the shape of input '{input}' for model '{model}' is not that of an array") from error


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
            raise DataError(
                "{prefix}incomplete string length indicator for inference input '{input}' for model '{model}', "
                f"expecting 4 bytes but only {len(data) - offset} bytes available. "
                "Please make sure the string length indicator is in one buffer."
            )
        (length,) = struct.unpack_from("<I", data, offset)
        offset = start + length
        if offset > len(data):
            raise DataError(
                "incomplete string data for inference input '{input}', "
                f"expecting string of length {length} but only {len(data) - start} bytes available"
            )
        elements.append(bytes(data[start:offset]))
    return elements


def _strings(elements: Sequence[bytes], shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    of_input = "for inference input '{input}' for model '{model}'"
    if len(elements) < count:
        raise DataError(f"{{prefix}}expected {count} string elements {of_input}, got {len(elements)}")
    if len(elements) > count:
        raise DataError(f"{{prefix}}unexpected number of string elements {len(elements)} {of_input}, expecting {count}")
    array = np.empty(count, STRING.numpy)
    array[:] = elements
    return shaped(array, shape)
