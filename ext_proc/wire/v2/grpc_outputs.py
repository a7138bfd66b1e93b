"""Outputs of a V2 ModelInferResponse: raw bytes beside the outputs, or typed contents in each of them."""

from google.protobuf.message import DecodeError

from ext_proc.protos import v2_reply_pb2 as v2
from ext_proc.wire.names import quoted
from ext_proc.wire.output_arrays import Array, OutputError, Outputs, check_names, check_numeric
from mesh.tensors import v2 as v2_tensors
from mesh.tensors.dtypes import BY_NUMPY, BY_V2
from mesh.tensors.numbers import extend


def decode(message: bytes) -> dict[str, Array]:
    """Name to array, of all outputs, in the order of the reply. Raises OutputError."""
    reply = _read(message)
    raws = reply.raw_output_contents
    return {output.name: _array(output, raws[at] if raws else None) for at, output in enumerate(reply.outputs)}


def encode(message: bytes, outputs: Outputs) -> bytes:
    """The reply with these outputs replaced, each in the form that it had: raw bytes, or typed contents."""
    reply = _read(message)
    check_names(outputs, [output.name for output in reply.outputs])
    for at, output in enumerate(reply.outputs):
        array = outputs.get(output.name)
        if array is None:
            continue
        dtype = BY_NUMPY[array.dtype]
        output.datatype = dtype.v2
        output.shape[:] = array.shape
        if reply.raw_output_contents:
            reply.raw_output_contents[at] = v2_tensors.to_raw(array)
        elif dtype.v2_field is None:
            raise OutputError(f"The output {quoted(output.name)} of type {dtype.v2} has no typed contents.")
        else:
            output.contents.Clear()
            extend(getattr(output.contents, dtype.v2_field), array)
    return reply.SerializeToString()


def _read(message: bytes) -> v2.ModelInferResponse:
    try:
        reply = v2.ModelInferResponse.FromString(message)
    except DecodeError:
        raise OutputError("The reply is not a valid ModelInferResponse.") from None
    if reply.raw_output_contents and len(reply.raw_output_contents) != len(reply.outputs):
        raise OutputError(
            f"The reply has {len(reply.outputs)} outputs and {len(reply.raw_output_contents)} raw_output_contents."
        )
    return reply


def _array(output: v2.InferOutputTensor, raw: bytes | None) -> Array:
    dtype = check_numeric(output.name, BY_V2.get(output.datatype), output.datatype)
    try:
        if raw is not None:
            return v2_tensors.from_raw(raw, dtype, output.shape)
        values = [] if dtype.v2_field is None else getattr(output.contents, dtype.v2_field)
        return v2_tensors.from_values(values, dtype, output.shape)
    except (v2_tensors.DataError, ValueError, OverflowError):
        raise OutputError(
            f"The output {quoted(output.name)} of type {output.datatype} does not have the data that its shape "
            f"{list(output.shape)} needs."
        ) from None
