"""The data of a tensor in V2's JSON: read with Triton's checks of each element, and written."""

import math
from typing import Any

import numpy as np

from mesh.model_server import rapidjson
from mesh.model_server.errors import ServingError, invalid
from mesh.model_server.v2 import triton_json
from mesh.model_server.v2.inference import INVALID, Tensor
from mesh.tensors.dtypes import BY_V2, STRING, Array, DType


def read(tensor: Tensor, data: Any) -> list[bytes] | Array:
    """JSON data, nested or flat, as one row of elements: a list of strings, or an array. Raises ServingError."""
    flat: list[Any] = []
    _flatten(triton_json.array(data, "data"), flat)
    if tensor.datatype == INVALID:
        raise invalid(f"invalid datatype for input {tensor.name}")
    if tensor.datatype in ("FP16", "BF16"):
        raise invalid(
            f"receiving {tensor.datatype} data via JSON is not supported. "
            f"Please use the binary data format for input {tensor.name}"
        )
    dtype = BY_V2[tensor.datatype]
    if dtype is STRING:
        if not all(isinstance(value, str) for value in flat):
            raise triton_json.broken("Unable to parse JSON bytes array: attempt to access JSON non-string as string")
        return [rapidjson.encode(value) for value in flat]
    values = _check_values(flat, dtype)
    if len(values) != math.prod(tensor.shape):
        raise triton_json.broken("Unable to parse 'data': Shape does not match true shape of 'data' field")
    # Integers are read as 64-bit ones, and wrap to narrower ones as in C++.
    wide = np.dtype({"f": np.float64, "b": np.bool_, "u": np.uint64, "i": np.int64}[dtype.numpy.kind])
    try:
        with np.errstate(over="ignore"):
            return np.array(values, wide).astype(dtype.numpy)
    except OverflowError as error:
        raise _not_integer(dtype) if dtype.numpy.kind in "iu" else _not_number() from error


def _flatten(values: list[Any], flat: list[Any]) -> None:
    if any(type(value) is list for value in values):
        for value in values:
            if type(value) is list:
                _flatten(value, flat)
            else:
                flat.append(value)
    else:
        flat.extend(values)


def _check_values(values: list[Any], dtype: DType) -> list[Any]:
    kinds = set(map(type, values))
    if dtype.numpy.kind == "b":
        if kinds - {bool}:
            raise triton_json.broken("Unable to parse 'data': attempt to access JSON non-boolean as boolean")
    elif dtype.numpy.kind == "f":
        if kinds - {int, float}:
            raise _not_number()
    elif kinds - {int} or (dtype.numpy.kind == "u" and min(values, default=0) < 0):
        raise _not_integer(dtype)
    return values


def _not_number() -> ServingError:
    return triton_json.broken("Unable to parse 'data': attempt to access JSON non-number as double")


def _not_integer(dtype: DType) -> ServingError:
    sign = "unsigned" if dtype.numpy.kind == "u" else "signed"
    return triton_json.broken(f"Unable to parse 'data': attempt to access JSON non-{sign}-integer as {sign}-integer")


def write(datatype: str, array: Array) -> list[Any]:
    """An output's elements as one row of JSON values. Raises ServingError."""
    if datatype == "FP16":
        raise invalid("sending FP16 data via JSON is not supported. Please use the binary data format for output")
    values: list[Any] = array.ravel().tolist()
    return [value.decode("utf-8", "surrogateescape") for value in values] if datatype == "BYTES" else values
