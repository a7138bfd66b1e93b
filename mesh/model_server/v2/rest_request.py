"""The body of a V2 REST inference: JSON, and the binary data that may follow or stand for it."""

import math
from dataclasses import dataclass
from typing import Any

from mesh.model_server.errors import invalid
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.v2 import inference, json_tensor, triton_json
from mesh.tensors.dtypes import BY_V2, STRING, Array
from mesh.tensors.v2 import DataError, from_raw, from_values, shaped


@dataclass(frozen=True, slots=True)
class InferBody:
    """A decoded request: the arrays, the outputs to compute, and which of them go out as binary data."""

    id: str
    inputs: dict[str, Array]
    outputs: list[str]
    binary: frozenset[str]


def decode(model_name: str, model: OnnxModel, body: bytes, header_length: int | None) -> InferBody:
    """An infer body; with a header length, the JSON is that long and binary data follow it. Raises ServingError."""
    if not body or header_length == 0:
        return _decode_raw(model_name, model, body)
    end = len(body) if header_length is None else header_length
    document = triton_json.parse(body[:end])
    request_id = document.get("id", "") if isinstance(document, dict) else ""
    if not isinstance(request_id, str):
        request_id = str(request_id)
    data = memoryview(body)[end:]
    declared = [_declare(each) for each in triton_json.array(triton_json.member(document, "inputs"), "inputs")]
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
            arrays.append(json_tensor.read(tensor, each))
    if used < len(data):
        raise invalid(f"unexpected additional input data for model '{model_name}'")
    chosen = inference.choose_outputs(model_name, model, outputs)
    inference.check_inputs(model_name, request_id, model, [tensor for tensor, _ in declared])
    inputs: dict[str, Array] = {}
    for (tensor, _), array in zip(declared, arrays, strict=True):
        inputs[tensor.name] = _finish(model_name, request_id, tensor, array)
    return InferBody(request_id, inputs, chosen, frozenset(chosen) if binary is None else binary)


def _decode_raw(model_name: str, model: OnnxModel, body: bytes) -> InferBody:
    """A raw binary request: the body is the one input, its open dimension is worked out, and all outputs are binary."""
    outputs = inference.choose_outputs(model_name, model, ())
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
    tensor = inference.Tensor("raw_input", spec.dtype.v2, shape)
    return InferBody("", {spec.name: _finish(model_name, "", tensor, memoryview(body))}, outputs, frozenset(outputs))


def _finish(
    model_name: str, request_id: str, tensor: inference.Tensor, data: "memoryview | list[bytes] | Array"
) -> Array:
    """The array of an input that passed the checks; binary data and strings are read only now."""
    dtype = BY_V2[tensor.datatype]
    try:
        if isinstance(data, memoryview):
            return from_raw(data, dtype, tensor.shape)
        if isinstance(data, list):
            return from_values(data, dtype, tensor.shape)
        return shaped(data, tensor.shape)
    except DataError as error:
        raise inference.bad_data(model_name, request_id, tensor.name, error) from error


def _declare(each: Any) -> tuple[inference.Tensor, dict[str, Any]]:
    if not isinstance(each, dict):
        each = {}
    given = [
        what
        for what, present in (
            ("data", "data" in each),
            ("binary_data_size", triton_json.parameter(each, "binary_data_size") is not None),
            ("shared_memory_region", triton_json.parameter(each, "shared_memory_region") is not None),
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
    name = triton_json.text(triton_json.member(each, "name"), "name")
    datatype = triton_json.text(triton_json.member(each, "datatype"), "datatype")
    shape = triton_json.array(triton_json.member(each, "shape"), "shape")
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise triton_json.broken(
                "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer"
            )
    if datatype not in BY_V2:
        raise invalid(f"invalid datatype for input {name}")
    return inference.Tensor(name, datatype, tuple(shape)), each


def _binary_size(each: dict[str, Any]) -> int | None:
    size = triton_json.parameter(each, "binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise triton_json.broken(
            "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer as unsigned-integer"
        )
    return size


def _outputs(document: Any) -> tuple[list[str], frozenset[str] | None]:
    """The outputs asked for, and those to be sent as binary data (None: all of them)."""
    every = triton_json.parameter(document, "binary_data_output") is True
    requested = document.get("outputs")
    if requested is None:
        return [], None if every else frozenset()
    names: list[str] = []
    binary: set[str] = set()
    for each in triton_json.array(requested, "outputs"):
        name = triton_json.text(triton_json.member(each, "name"), "name")
        if triton_json.parameter(each, "classification"):
            raise invalid("classification of outputs is not supported by this server")
        if triton_json.parameter(each, "shared_memory_region"):
            raise invalid("shared memory is not supported by this server")
        names.append(name)
        wanted = triton_json.parameter(each, "binary_data")
        if wanted is True or (wanted is None and every):
            binary.add(name)
    return names, frozenset(binary) if names or not every else None
