"""The body of a V2 REST inference: JSON, and the binary data that may follow or stand for it."""

import math
from dataclasses import dataclass
from typing import Any

from mesh.model_server.errors import invalid
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.v2 import inference, json_tensor, rest_parameters, triton_json
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
    request_id = triton_json.text(document.get("id", ""), "id") if isinstance(document, dict) else ""
    every = rest_parameters.binary_data_output(document)
    data = memoryview(body)[end:]
    scalars = {spec.name for spec in model.inputs if not spec.shape}
    declared: dict[str, inference.Tensor] = {}
    arrays: list[memoryview | list[bytes] | Array] = []
    used = 0
    for each in triton_json.array(triton_json.member(document, "inputs"), "inputs"):
        tensor = _declare(each)
        if tensor.name in declared:
            raise inference.twice(request_id, tensor.name)
        declared[tensor.name] = tensor
        parameters = triton_json.parameters(each)
        if "binary_data_size" in parameters:
            size = triton_json.unsigned(parameters["binary_data_size"], "binary_data_size")
            if used + size > len(data):
                missing = used + size - len(data)
                raise invalid(
                    f"unexpected size for input '{tensor.name}', expecting {missing} additional bytes "
                    f"for model '{model_name}'"
                )
            arrays.append(data[used : used + size])
            used += size
            continue
        rest_parameters.check_input(parameters)
        if 0 in tensor.shape or not (tensor.shape or tensor.name in scalars):
            arrays.append([])  # of no elements, whatever the data are
        else:
            arrays.append(json_tensor.read(tensor, each["data"]))
    if used < len(data):
        raise invalid(f"unexpected additional input data for model '{model_name}'")
    outputs, binary = _outputs(document, every)
    chosen = inference.choose_outputs(model_name, model, outputs)
    tensors = list(declared.values())
    inference.check_inputs(model_name, request_id, model, tensors)
    inputs: dict[str, Array] = {}
    for tensor, array in zip(tensors, arrays, strict=True):
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


def _declare(each: Any) -> inference.Tensor:
    if not isinstance(each, dict):
        each = {}
    parameters = triton_json.parameters(each)
    sources = ["'data'"] if "data" in each else []
    sources += [f"'{name}'" for name in ("binary_data_size", "shared_memory_region") if name in parameters]
    if len(sources) != 1:
        raise invalid(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But "
            + (f"set {' '.join(sources)}" if sources else "no field is set")
        )
    name = triton_json.text(triton_json.member(each, "name"), "name")
    datatype = triton_json.text(triton_json.member(each, "datatype"), "datatype")
    shape = triton_json.array(triton_json.member(each, "shape"), "shape")
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise triton_json.broken(
                "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer"
            )
    return inference.Tensor(name, inference.datatype(datatype), tuple(shape))


def _outputs(document: dict[str, Any], every: bool) -> tuple[list[str], frozenset[str] | None]:
    """The outputs asked for, and those to be sent as binary data (None: all of them). Raises ServingError.

    `every` counts only where no output is named; of an output that is named twice the first one counts.
    """
    wanted: dict[str, rest_parameters.OutputParameters] = {}
    for each in triton_json.array(document.get("outputs", []), "outputs"):
        name = triton_json.text(triton_json.member(each, "name"), "name")
        parameters = rest_parameters.output(triton_json.parameters(each))
        wanted.setdefault(name, parameters)
    if any(parameters.classes for parameters in wanted.values()):
        raise inference.classification_refused()
    if every and not wanted:
        return [], None
    return list(wanted), frozenset(name for name, parameters in wanted.items() if parameters.binary)
