"""One tensor out of TF Serving's JSON: shape, elements, base64.

Rules and texts are those of its util/json_tensor.cc.
"""

import base64
import binascii
from typing import Any

import numpy as np

from mesh.model_server import rapidjson
from mesh.model_server.errors import ServingError, StatusCode, invalid
from mesh.tensors.dtypes import DOUBLE, FLOAT, STRING, Array, DType

_DEBUG_BYTES = 256
#: What a JSON integer must fit for each type (RapidJSON's IsInt and so on); int8 to uint16 wrap afterwards.
_INTEGERS = {"int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}
_INT32 = (-(2**31), 2**31 - 1)
_NO_SPACE = str.maketrans("", "", " \t\n\v\f\r")


def read(value: Any, dtype: DType) -> Array:
    """A scalar, or lists of lists: the first element of each level gives the shape, the others must follow it.

    Raises ServingError.
    """
    shape = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        if not level:
            break
        level = level[0]
    flat: list[Any] = []
    _flatten(value, 0, shape, dtype, flat)
    try:
        return _array(flat, dtype).reshape(shape)
    except ValueError as error:
        raise invalid(f"Lists are nested {len(shape)} levels deep, which is more than an array can have") from error


def _array(flat: list[Any], dtype: DType) -> Array:
    if dtype is STRING:
        strings = np.empty(len(flat), STRING.numpy)
        strings[:] = flat
        return strings
    wide = np.dtype(np.int64) if dtype.tf_field == "int_val" else DOUBLE.numpy if dtype is FLOAT else dtype.numpy
    try:
        with np.errstate(over="ignore"):  # a double beyond float32 is infinite, and a wide integer wraps, as in C++
            return np.array(flat, wide).astype(dtype.numpy)
    except OverflowError as error:
        raise invalid("JSON Parse error: Number too big to be stored in double.") from error


def _flatten(value: Any, level: int, shape: list[int], dtype: DType, flat: list[Any]) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise invalid(
                f"JSON Value: {debug(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        flat.append(_element(value, dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level == rank - 1 and dtype in (FLOAT, DOUBLE) and set(map(type, value)) <= {int, float}:
        flat.extend(value)  # the usual row of numbers, checked at once
        return
    for element in value:
        _flatten(element, level + 1, shape, dtype, flat)


def _element(value: Any, dtype: DType) -> Any:
    if isinstance(value, dict):
        if dtype is STRING:
            return _from_base64(value)
        raise _type_error(value, dtype)
    if dtype.tf_name in ("half", "uint16"):
        raise ServingError(
            StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {debug(value)} to type: {dtype.tf_name}"
        )
    if dtype is STRING:
        if isinstance(value, str):
            return rapidjson.encode(value)
    elif dtype.tf_name == "bool":
        if isinstance(value, bool):
            return value
    elif dtype.numpy.kind == "f":
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif type(value) is int:
        low, high = _INTEGERS.get(dtype.tf_name, _INT32)
        if low <= value <= high:
            return value
    raise _type_error(value, dtype)


def is_base64(value: Any) -> bool:
    """Whether a value is a string in base64: `{"b64": "..."}`, with no other member, be it of the same name."""
    return isinstance(value, dict) and isinstance(value.get("b64"), str) and len(rapidjson.members(value)) == 1


def _from_base64(value: dict[str, Any]) -> bytes:
    if not is_base64(value):
        raise invalid(f"JSON Value: {debug(value)} not formatted correctly for base64 data")
    # As absl's Base64Unescape reads it: white space counts for nothing, and padding, of `=` or `.`, is there or not.
    text = value["b64"].translate(_NO_SPACE)
    digits = text.rstrip("=.")
    padding = -len(digits) % 4
    if padding == 3 or len(text) - len(digits) not in (0, padding):
        raise invalid("Unable to base64 decode")
    try:
        return base64.b64decode(digits + "=" * padding, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def debug(value: Any) -> str:
    """A value as messages show it: printed on few lines, and cut."""
    text = rapidjson.pretty_start(value, _DEBUG_BYTES)
    return rapidjson.encode(text)[:_DEBUG_BYTES].decode("utf-8", "surrogateescape")


def _type_error(value: Any, dtype: DType) -> ServingError:
    return invalid(
        f"JSON Value: {debug(value)} Type: {rapidjson.type_name(value)} is not of expected type: {dtype.tf_name}"
    )
