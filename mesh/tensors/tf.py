"""TensorFlow's TensorProto to and from arrays, as TensorFlow itself does it."""

import math
from typing import Any

import numpy as np

from mesh.protos import tfs_pb2 as tfs
from mesh.tensors.dtypes import BY_NUMPY, BY_TF, HALF, STRING, Array, DType, TensorSpec
from mesh.tensors.numbers import extend, from_numbers

MAX_REPEATED = 1 << 24
"""The most elements that a few values may be repeated to fill (TensorFlow repeats the last value given)."""


class TensorError(Exception):
    """A TensorProto that is no tensor."""


def shape_of(proto: tfs.TensorProto) -> tuple[int, ...]:
    """The tensor's shape. Raises TensorError unless every size is known."""
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError("the shape is not fully known")
    return shape


def decode(proto: tfs.TensorProto) -> Array:
    """The array that a TensorProto stands for, by TensorFlow's rules.

    `tensor_content` must be exactly as long as the shape says; of typed values the last one is repeated if there are
    fewer than elements, zeros stand for none at all, and surplus values are ignored. Raises TensorError.
    """
    dtype = BY_TF.get(proto.dtype)
    if dtype is None:
        raise TensorError(f"the type {proto.dtype} is not served")
    shape = shape_of(proto)
    count = math.prod(shape)
    if proto.tensor_content and dtype is not STRING:
        if len(proto.tensor_content) != count * dtype.numpy.itemsize:
            raise TensorError("tensor_content does not have the length that the shape needs")
        flat: Array = np.frombuffer(proto.tensor_content, dtype.numpy)
    else:
        flat = _fill(_values(proto, dtype, count), count, dtype)
    try:
        return flat.reshape(shape)
    except ValueError as error:  # more dimensions, or larger ones beside an empty one, than an array can have
        raise TensorError("the shape is not that of an array") from error


def _values(proto: tfs.TensorProto, dtype: DType, count: int) -> Array:
    values = getattr(proto, dtype.tf_field)
    if dtype is STRING:
        strings = np.empty(min(len(values), count), STRING.numpy)
        strings[:] = values[:count]
        return strings
    if dtype is HALF:
        return from_numbers(values, np.int64, count).astype(np.uint16).view(np.float16)  # carried as bit patterns
    if dtype.tf_field == "int_val":
        return from_numbers(values, np.int64, count).astype(dtype.numpy)  # narrow integers travel as int32 and wrap
    return from_numbers(values, dtype.numpy, count)


def _fill(values: Array, count: int, dtype: DType) -> Array:
    if len(values) == count:
        return values
    if count > MAX_REPEATED:
        raise TensorError("there are far fewer values than elements")
    empty: Any = b"" if dtype is STRING else 0
    filled = np.full(count, values[-1] if len(values) else empty, dtype.numpy)
    filled[: len(values)] = values
    return filled


def encode(array: Array) -> tfs.TensorProto:
    """The TensorProto of an array, with typed values: what TF Serving answers by default."""
    dtype = BY_NUMPY[array.dtype]
    proto = tfs.TensorProto(dtype=dtype.tf)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    values = array.view(np.uint16) if dtype is HALF else array
    extend(getattr(proto, dtype.tf_field), values)
    return proto


def info(spec: TensorSpec) -> tfs.TensorInfo:
    """What a signature says of one input or output."""
    result = tfs.TensorInfo(name=f"{spec.name}:0", dtype=spec.dtype.tf)
    for size in spec.shape:
        result.tensor_shape.dim.add(size=size)
    return result
