"""Outputs of TF Serving's PredictResponse."""

from google.protobuf.message import DecodeError

from ext_proc.wire.names import quoted
from ext_proc.wire.output_arrays import Array, OutputError, Outputs, check_names, check_numeric
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import BY_NUMPY, BY_TF


def decode(message: bytes) -> dict[str, Array]:
    """Name to array, of all outputs. Raises OutputError."""
    return {name: _array(name, tensor) for name, tensor in sorted(_read(message).outputs.items())}


def encode(message: bytes, outputs: Outputs) -> bytes:
    """The reply with these outputs replaced, each in the form that it had: tensor_content, or typed values."""
    reply = _read(message)
    check_names(outputs, list(reply.outputs))
    for name, array in outputs.items():
        encode_one = _packed if reply.outputs[name].tensor_content else tf_tensors.encode
        reply.outputs[name].CopyFrom(encode_one(array))
    return reply.SerializeToString()


def _packed(array: Array) -> tfs.TensorProto:
    tensor = tfs.TensorProto(dtype=tfs.DataType.Name(BY_NUMPY[array.dtype].tf), tensor_content=array.tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def _read(message: bytes) -> tfs.PredictResponse:
    try:
        return tfs.PredictResponse.FromString(message)
    except DecodeError:
        raise OutputError("The reply is not a valid PredictResponse.") from None


def _array(name: str, tensor: tfs.TensorProto) -> Array:
    known = tensor.dtype in tfs.DataType.values()
    check_numeric(name, BY_TF.get(tensor.dtype), tfs.DataType.Name(tensor.dtype) if known else str(tensor.dtype))
    try:
        return tf_tensors.decode(tensor)
    except (tf_tensors.TensorError, ValueError, OverflowError) as error:
        raise OutputError(f"The output {quoted(name)} is no tensor: {error}.") from None
