"""The V2 protocol's REST bodies: JSON, and the binary tensor extension, with Triton's rules and texts."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mesh.model_server import rapidjson, v2
from mesh.model_server.errors import Code, ServingError, invalid
from mesh.model_server.runtime import OnnxModel
from mesh.tensors.dtypes import BY_V2, STRING, Array, DType, TensorSpec
from mesh.tensors.v2 import DataError, from_raw, from_values, shaped, to_raw

#: Triton's RapidJSON is newer than TF Serving's, and quotes the characters that it misses.
_NEWER_TEXTS = {
    "Missing a comma or } after an object member.": "Missing a comma or '}' after an object member.",
    "Missing a comma or ] after an array element.": "Missing a comma or ']' after an array element.",
}


@dataclass(frozen=True, slots=True)
class InferBody:
    """A decoded request: the arrays, the outputs to compute, and which of them go out as binary data."""

    id: str
    inputs: dict[str, Array]
    outputs: list[str]
    binary: frozenset[str]


def broken(message: str) -> ServingError:
    """What Triton answers to JSON that is not what it should be: an internal error."""
    return ServingError(Code.INTERNAL, message)


def parse(body: bytes) -> Any:
    """The JSON value in a body. Raises ServingError."""
    try:
        return rapidjson.parse(body)
    except rapidjson.JsonError as error:
        text = _NEWER_TEXTS.get(error.text, error.text)
        raise broken(f"failed to parse the request JSON buffer: {text} at {error.offset}") from error


def decode(model_name: str, model: OnnxModel, body: bytes, header_length: int | None) -> InferBody:
    """An infer body; with a header length, the JSON is that long and binary data follow it. Raises ServingError."""
    if not body or header_length == 0:
        return _decode_raw(model_name, model, body)
    end = len(body) if header_length is None else header_length
    document = parse(body[:end])
    request_id = document.get("id", "") if isinstance(document, dict) else ""
    if not isinstance(request_id, str):
        request_id = str(request_id)
    data = memoryview(body)[end:]
    declared = [_declare(each) for each in _array(_member(document, "inputs"), "inputs")]
    outputs, binary = _outputs(document)
    arrays: list[memoryview | list[bytes] | Array] = []
    used = 0
    for tensor, each in declared:
        size = _binary_size(each)
        if size is not None:
            if used + size > len(data):
                missing = used + size - len(data)
                raise invalid(
                    f"unexpected size for input '{tensor.name}', expecting {missing} additional bytes "
                    f"for model '{model_name}'"
                )
            arrays.append(data[used : used + size])
            used += size
        else:
            arrays.append(_read_values(tensor, each))
    if used < len(data):
        raise invalid(f"unexpected additional input data for model '{model_name}'")
    chosen = v2.choose_outputs(model_name, model, outputs)
    v2.check_inputs(model_name, request_id, model, [tensor for tensor, _ in declared])
    inputs: dict[str, Array] = {}
    for (tensor, _), array in zip(declared, arrays, strict=True):
        inputs[tensor.name] = _finish(model_name, request_id, tensor, array)
    return InferBody(request_id, inputs, chosen, frozenset(chosen) if binary is None else binary)


def _decode_raw(model_name: str, model: OnnxModel, body: bytes) -> InferBody:
    """A raw binary request: the body is the one input, its open dimension is worked out, and all outputs are binary."""
    outputs = v2.choose_outputs(model_name, model, ())
    if len(model.inputs) != 1:
        raise invalid(
            f"Raw request must only have 1 input (found {len(model.inputs)}) to be deduced but got "
            f"{len(model.inputs)} inputs in '{model_name}' model configuration"
        )
    (spec,) = model.inputs
    if spec.dtype is STRING:
        raise invalid(f"Raw request can not be used for the strings of input '{spec.name}' of model '{model_name}'")
    open_dimensions = [position for position, size in enumerate(spec.shape) if size < 0]
    if len(open_dimensions) > 1:
        raise invalid(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more than "
            "one variable-sized dimension"
        )
    row = math.prod(size for size in spec.shape if size >= 0) * spec.dtype.numpy.itemsize
    rows = len(body) // row if row else 0
    shape = tuple(rows if size < 0 else size for size in spec.shape)
    tensor = v2.Tensor("raw_input", spec.dtype.v2, shape)
    return InferBody("", {spec.name: _finish(model_name, "", tensor, memoryview(body))}, outputs, frozenset(outputs))


def _finish(model_name: str, request_id: str, tensor: v2.Tensor, data: "memoryview | list[bytes] | Array") -> Array:
    """The array of an input that passed the checks; binary data and strings are read only now."""
    dtype = BY_V2[tensor.datatype]
    try:
        if isinstance(data, memoryview):
            return from_raw(data, dtype, tensor.shape)
        if isinstance(data, list):
            return from_values(data, dtype, tensor.shape)
        return shaped(data, tensor.shape)
    except DataError as error:
        raise v2.bad_data(model_name, request_id, tensor.name, error) from error


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise broken(f"Unable to parse '{name}': attempt to access non-existing object member '{name}'")
    return value[name]


def _array(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise broken(f"Unable to parse '{name}': attempt to access JSON non-array as array")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise broken(f"Unable to parse '{name}': attempt to access JSON non-string as string")
    return value


def _declare(each: Any) -> tuple[v2.Tensor, dict[str, Any]]:
    if not isinstance(each, dict):
        each = {}
    given = [
        what
        for what, present in (
            ("data", "data" in each),
            ("binary_data_size", _parameter(each, "binary_data_size") is not None),
            ("shared_memory_region", _parameter(each, "shared_memory_region") is not None),
        )
        if present
    ]
    if len(given) != 1:
        raise invalid(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But {'no field is set' if not given else 'set multiple'}"
        )
    if given == ["shared_memory_region"]:
        raise invalid("shared memory is not supported by this server")
    name = _text(_member(each, "name"), "name")
    datatype = _text(_member(each, "datatype"), "datatype")
    shape = _array(_member(each, "shape"), "shape")
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise broken("Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer")
    if datatype not in BY_V2:
        raise invalid(f"invalid datatype for input {name}")
    return v2.Tensor(name, datatype, tuple(shape)), each


def _parameter(each: dict[str, Any], name: str) -> Any:
    parameters = each.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _binary_size(each: dict[str, Any]) -> int | None:
    size = _parameter(each, "binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise broken(
            "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer as unsigned-integer"
        )
    return size


def _read_values(tensor: v2.Tensor, each: dict[str, Any]) -> list[bytes] | Array:
    """JSON data, nested or flat, as one row of elements: a list of strings, or an array. Raises ServingError."""
    dtype = BY_V2[tensor.datatype]
    flat: list[Any] = []
    _flatten(_array(each["data"], "data"), flat)
    if dtype.v2 == "FP16":
        raise invalid(
            f"receiving FP16 data via JSON is not supported. Please use the binary data format for input {tensor.name}"
        )
    if dtype is STRING:
        if not all(isinstance(value, str) for value in flat):
            raise broken("Unable to parse JSON bytes array: attempt to access JSON non-string as string")
        return [rapidjson.encode(value) for value in flat]
    values = _check_values(flat, dtype)
    if len(values) != math.prod(tensor.shape):
        raise broken("Unable to parse 'data': Shape does not match true shape of 'data' field")
    wide: Any = np.float64 if dtype.numpy.kind == "f" else dtype.numpy if dtype.numpy.kind == "b" else np.int64
    if dtype.v2 == "UINT64":
        wide = np.uint64
    try:
        with np.errstate(over="ignore"):
            return np.array(values, wide).astype(dtype.numpy)
    except OverflowError as error:
        raise broken("Unable to parse 'data': a number is out of range") from error


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
            raise broken("Unable to parse 'data': attempt to access JSON non-boolean as boolean")
    elif dtype.numpy.kind == "f":
        if kinds - {int, float}:
            raise broken("Unable to parse 'data': attempt to access JSON non-number as double")
    elif kinds - {int}:
        sign = "unsigned" if dtype.numpy.kind == "u" else "signed"
        raise broken(f"Unable to parse 'data': attempt to access JSON non-{sign}-integer as {sign}-integer")
    return values


def _outputs(document: Any) -> tuple[list[str], frozenset[str] | None]:
    """The outputs asked for, and those to be sent as binary data (None: all of them)."""
    every = _parameter(document, "binary_data_output") is True
    requested = document.get("outputs")
    if requested is None:
        return [], None if every else frozenset()
    names: list[str] = []
    binary: set[str] = set()
    for each in _array(requested, "outputs"):
        name = _text(_member(each, "name"), "name")
        if _parameter(each, "classification"):
            raise invalid("classification of outputs is not supported by this server")
        if _parameter(each, "shared_memory_region"):
            raise invalid("shared memory is not supported by this server")
        names.append(name)
        wanted = _parameter(each, "binary_data")
        if wanted is True or (wanted is None and every):
            binary.add(name)
    return names, frozenset(binary) if names or not every else None


def encode(
    model_name: str, version: int, specs: Sequence[TensorSpec], request: InferBody, results: Mapping[str, Array]
) -> tuple[bytes, list[bytes]]:
    """The JSON of an answer, and the binary data that follow it, in order. Raises ServingError."""
    document: dict[str, Any] = {"id": request.id} if request.id else {}
    document |= {"model_name": model_name, "model_version": str(version)}
    datatypes = {spec.name: spec.dtype.v2 for spec in specs}
    chunks: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for name, array in results.items():
        output: dict[str, Any] = {"name": name, "datatype": datatypes[name], "shape": list(array.shape)}
        if name in request.binary:
            chunks.append(to_raw(array))
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = _to_values(name, datatypes[name], array)
        outputs.append(output)
    document["outputs"] = outputs
    return compact(document), chunks


def _to_values(name: str, datatype: str, array: Array) -> list[Any]:
    if datatype == "FP16":
        raise invalid(
            f"sending FP16 data via JSON is not supported. Please use the binary data format for output {name}"
        )
    values: list[Any] = array.ravel().tolist()
    return [value.decode("utf-8", "surrogateescape") for value in values] if datatype == "BYTES" else values


def compact(value: Any) -> bytes:
    """JSON without spaces, as Triton prints it."""
    return rapidjson.encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
