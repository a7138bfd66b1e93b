"""TF Serving's REST requests into arrays, by its rules and with its texts (those of its util/json_tensor.cc)."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mesh.model_server import rapidjson
from mesh.model_server.errors import Code, ServingError, invalid
from mesh.tensors.dtypes import DOUBLE, FLOAT, STRING, Array, DType, TensorSpec

_DEBUG_BYTES = 256
#: What a JSON integer must fit for each type (RapidJSON's IsInt and so on); int8 to uint16 wrap afterwards.
_INTEGERS = {"int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1)}
_INT32 = (-(2**31), 2**31 - 1)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. Raises ServingError."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = rapidjson.parse(body, stop_when_done=True)
    except rapidjson.JsonError as error:
        raise invalid(f"JSON Parse error: {error.text} at offset: {error.offset}") from error
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    return document


def signature_of(document: dict[str, Any]) -> str:
    """The signature that the request names; "" for none. Raises ServingError."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def check_examples(document: dict[str, Any]) -> None:
    """Raise ServingError unless there is a list of examples, as :classify and :regress need."""
    if "examples" not in document:
        raise _format_error(document, "When method is classify, key 'examples' is expected and was not found")
    if not isinstance(document["examples"], list):
        raise _format_error(document, "Expecting 'examples' value to be an list/array")
    if not document["examples"]:
        raise _format_error(document, "'examples' value is an empty array")


def decode(document: dict[str, Any], specs: Sequence[TensorSpec]) -> tuple[dict[str, Array], bool]:
    """The arrays of a :predict request, and whether they came as "instances". Raises ServingError."""
    by_name = {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}
    if "instances" in document and "inputs" in document:
        raise _format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise _format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise _format_error(document, "No values in 'instances' array")
        return _from_instances(instances, by_name), True
    if "inputs" in document:
        return _from_inputs(document["inputs"], by_name), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_inputs(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if isinstance(value, dict) and not _is_base64(value):
        arrays = {}
        for name, spec in specs.items():
            if name not in value:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
            arrays[name] = _tensor(value[name], spec.dtype)
        return arrays
    if len(specs) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        )
    (spec,) = specs.values()
    return {spec.name: _tensor(value, spec.dtype)}


def _from_instances(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(specs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = _is_object(instances[0])
    rows: dict[str, list[Array]] = {name: [] for name in specs}
    for position, element in enumerate(instances):
        if named:
            if not _is_object(element):
                raise invalid(f"Expecting object but got list at item {position} of input list")
            _add_object(element, position, specs, rows)
        else:
            if _is_object(element):
                raise invalid(f"Expecting value/list but got object at item {position} of input list")
            _add_item(element, position, next(iter(specs.values())), rows, "")
    return {name: np.stack(arrays) for name, arrays in rows.items()}


def _add_object(
    element: dict[str, Any], position: int, specs: Mapping[str, TensorSpec], rows: dict[str, list[Array]]
) -> None:
    for name, value in element.items():
        if name not in specs:
            raise invalid(
                f"Failed to process element: {position} key: {name} of 'instances' list. Error: "
                f"INVALID_ARGUMENT: JSON object: does not have named input: {name}"
            )
        _add_item(value, position, specs[name], rows, f" key: {name}")
    if element.keys() != specs.keys():
        raise invalid(
            f"Failed to process element: {position} of 'instances' list. JSON object: {_debug(element)} keys must be "
            f"equal to: {','.join(specs)}"
        )


def _add_item(value: Any, position: int, spec: TensorSpec, rows: dict[str, list[Array]], key: str) -> None:
    arrays = rows[spec.name]
    try:
        array = _tensor(value, spec.dtype)
        if arrays and arrays[0].size != array.size:
            raise invalid(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
        if arrays and arrays[0].shape != array.shape:
            raise invalid(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
    except ServingError as error:
        raise invalid(
            f"Failed to process element: {position}{key} of 'instances' list. Error: {error.code.name}: {error.message}"
        ) from error
    arrays.append(array)


def _tensor(value: Any, dtype: DType) -> Array:
    """A scalar, or lists of lists: the first element of each level gives the shape, the others must follow it."""
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
                f"JSON Value: {_debug(value)} found at incorrect level: {level + 1} in the JSON DOM. "
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
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {_debug(value)} to type: {dtype.tf_name}")
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


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _from_base64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_debug(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _debug(value: Any) -> str:
    text = rapidjson.pretty(value, single_line_arrays=True)
    return rapidjson.encode(text)[:_DEBUG_BYTES].decode("utf-8", "surrogateescape")


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_error(value: Any, dtype: DType) -> ServingError:
    return invalid(
        f"JSON Value: {_debug(value)} Type: {rapidjson.type_name(value)} is not of expected type: {dtype.tf_name}"
    )


def _format_error(value: Any, text: str) -> ServingError:
    return invalid(f"JSON Value: {_debug(value)} {text}")
