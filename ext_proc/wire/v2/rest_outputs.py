"""Outputs of a V2 REST reply: JSON data, or the binary tensor extension.

With the extension the body is the JSON object, as long as the header Inference-Header-Content-Length says, and then
the data of every output that has the parameter binary_data_size, in the order of the outputs.
"""

from dataclasses import dataclass
from typing import Any

from ext_proc.wire.names import quoted
from ext_proc.wire.output_arrays import (
    Array,
    OutputError,
    Outputs,
    check_names,
    check_numeric,
    from_numbers,
    read_object,
    write_object,
)
from mesh.digits import number
from mesh.tensors import v2 as v2_tensors
from mesh.tensors.dtypes import BY_NUMPY, BY_V2

HEADER = "inference-header-content-length"


@dataclass(slots=True)
class _Output:
    json: dict[str, Any]
    name: str
    raw: bytes | None  # None: the data is in the JSON


def decode(body: bytes, header: str | None) -> dict[str, Array]:
    """Name to array, of all outputs, in the order of the reply. `header` is HEADER's value. Raises OutputError."""
    return {output.name: _array(output) for output in _read(body, header)[1]}


def encode(body: bytes, header: str | None, outputs: Outputs) -> tuple[bytes, str | None]:
    """The reply with these outputs replaced, each in the form that it had, and the new value of HEADER."""
    reply, found = _read(body, header)
    check_names(outputs, [output.name for output in found])
    for output in found:
        array = outputs.get(output.name)
        if array is not None:
            output.json |= {"datatype": BY_NUMPY[array.dtype].v2, "shape": list(array.shape)}
            if output.raw is None:
                output.json["data"] = array.ravel().tolist()
            else:
                output.raw = v2_tensors.to_raw(array)
                output.json["parameters"]["binary_data_size"] = len(output.raw)
    text = write_object(reply, separators=(",", ":"))
    raws = [output.raw for output in found if output.raw is not None]
    return b"".join([text, *raws]), None if header is None else str(len(text))


def _read(body: bytes, header: str | None) -> tuple[dict[str, Any], list[_Output]]:
    size = len(body) if header is None else number(header, 18)
    if size is None or size > len(body):
        raise OutputError(f"The header {HEADER} {quoted(header or '')} is not the length of a part of the reply.")
    reply, at, found = read_object(body[:size]), size, []
    outputs = reply.get("outputs")
    if not isinstance(outputs, list):
        raise OutputError("The reply has no list of 'outputs'.")
    for output in outputs:
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise OutputError("The reply has an output without a name.")
        raw = None
        length = _binary_size(output)
        if length is not None:
            raw = body[at : at + length]
            at += length
        found.append(_Output(output, output["name"], raw))
    if at != len(body):
        raise OutputError(f"The outputs' binary_data_size asks for {at - size} bytes of {len(body) - size}.")
    return reply, found


def _binary_size(output: dict[str, Any]) -> int | None:
    parameters = output.get("parameters")
    if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise OutputError(f"The output {quoted(output['name'])} has an impossible binary_data_size.")
    return size


def _array(output: _Output) -> Array:
    called, shape = output.json.get("datatype"), output.json.get("shape")
    dtype = check_numeric(output.name, BY_V2.get(str(called)), str(called))
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise OutputError(f"The output {quoted(output.name)} has no shape.")
    if output.raw is None:
        return from_numbers(output.name, output.json.get("data"), dtype.numpy, shape)
    try:
        return v2_tensors.from_raw(output.raw, dtype, shape)
    except (v2_tensors.DataError, ValueError, OverflowError):
        raise OutputError(
            f"The output {quoted(output.name)} of type {called} does not have the data that its shape {shape} needs."
        ) from None
