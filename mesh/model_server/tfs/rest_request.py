"""The bodies of TF Serving's REST requests: rows ("instances") or columns ("inputs") into arrays.

Rules and texts are those of its util/json_tensor.cc.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mesh.model_server import rapidjson
from mesh.model_server.errors import ServingError, invalid
from mesh.model_server.tfs import json_tensor
from mesh.tensors.dtypes import Array, TensorSpec


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
    if isinstance(value, dict) and not json_tensor.is_base64(value):
        arrays = {}
        for name, spec in specs.items():
            if name not in value:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
            arrays[name] = json_tensor.read(value[name], spec.dtype)
        return arrays
    if len(specs) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        )
    (spec,) = specs.values()
    return {spec.name: json_tensor.read(value, spec.dtype)}


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
    for name, value in rapidjson.members(element):
        if name not in specs:
            raise invalid(
                f"Failed to process element: {position} key: {name} of 'instances' list. Error: "
                f"INVALID_ARGUMENT: JSON object: does not have named input: {name}"
            )
        _add_item(value, position, specs[name], rows, f" key: {name}")
        del rows[name][position + 1 :]  # of a name given twice the first counts, as wherever names are looked up
    if element.keys() != specs.keys():
        raise invalid(
            f"Failed to process element: {position} of 'instances' list. JSON object: {json_tensor.debug(element)} "
            f"keys must be equal to: {','.join(specs)}"
        )


def _add_item(value: Any, position: int, spec: TensorSpec, rows: dict[str, list[Array]], key: str) -> None:
    arrays = rows[spec.name]
    try:
        array = json_tensor.read(value, spec.dtype)
        if arrays and arrays[0].size != array.size:
            raise invalid(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
        if arrays and arrays[0].shape != array.shape:
            raise invalid(f"Expecting shape {_shape(arrays[0])} but got: {_shape(array)}")
    except ServingError as error:
        raise invalid(
            f"Failed to process element: {position}{key} of 'instances' list. Error: {error.code.name}: {error.message}"
        ) from error
    arrays.append(array)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not json_tensor.is_base64(value)


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _format_error(value: Any, text: str) -> ServingError:
    return invalid(f"JSON Value: {json_tensor.debug(value)} {text}")
