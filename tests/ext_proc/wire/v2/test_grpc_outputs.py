from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferResult
from tritonclient.grpc import service_pb2 as v2

from ext_proc.protos import v2_reply_pb2
from ext_proc.wire.output_arrays import OutputError
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from mesh.tensors.dtypes import BY_NUMPY
from tests.ext_proc.wire.arrays import ARRAYS, LIMIT, NAMES, V2_GRPC, Array, same

TYPED = ARRAYS.filter(lambda array: array.dtype != np.float16)


def decode(reply: v2.ModelInferResponse | bytes) -> dict[str, Array]:
    message = reply if isinstance(reply, bytes) else reply.SerializeToString()
    return decode_outputs(V2_GRPC, {}, message, LIMIT)


def encode(reply: v2.ModelInferResponse, outputs: dict[str, Array]) -> v2.ModelInferResponse:
    rewritten = encode_outputs(V2_GRPC, {}, reply.SerializeToString(), outputs, LIMIT)
    assert rewritten.headers == rewritten.removed == ()
    return v2.ModelInferResponse.FromString(rewritten.body)


def reply_of(outputs: dict[str, Array], raw: bool) -> v2.ModelInferResponse:
    reply = v2.ModelInferResponse(model_name="m", model_version="3", id="i")
    reply.parameters["p"].int64_param = 5
    for name, array in outputs.items():
        dtype = BY_NUMPY[array.dtype]
        output = reply.outputs.add(name=name, datatype=dtype.v2, shape=array.shape)
        output.parameters["q"].string_param = "kept"
        if raw:
            reply.raw_output_contents.append(array.tobytes())
        else:
            assert dtype.v2_field is not None
            getattr(output.contents, dtype.v2_field).extend(array.ravel().tolist())
    return reply


def test_the_subset_is_a_subset_of_the_real_messages() -> None:
    for name, message in v2_reply_pb2.DESCRIPTOR.message_types_by_name.items():
        real = v2.ModelInferResponse.InferOutputTensor if name == "InferOutputTensor" else getattr(v2, name)
        for field in message.fields:
            counterpart = real.DESCRIPTOR.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (
                counterpart.number, counterpart.type, counterpart.is_repeated,
            )  # fmt: skip


@given(st.dictionaries(NAMES, ARRAYS, max_size=3))
def test_raw_outputs_are_read(outputs: dict[str, Array]) -> None:
    decoded = decode(reply_of(outputs, raw=True))
    assert list(decoded) == list(outputs)
    assert all(same(decoded[name], outputs[name]) for name in outputs)


@given(st.dictionaries(NAMES, TYPED, max_size=3))
def test_typed_outputs_are_read(outputs: dict[str, Array]) -> None:
    decoded = decode(reply_of(outputs, raw=False))
    assert list(decoded) == list(outputs)
    assert all(same(decoded[name], outputs[name]) for name in outputs)


@given(TYPED, TYPED, TYPED, st.booleans())
def test_replaced_outputs_are_read_by_the_real_client_and_all_else_is_kept(
    old: Array, kept: Array, new: Array, raw: bool
) -> None:
    reply = reply_of({"x": old, "kept": kept}, raw)
    rewritten = encode(reply, {"x": new})
    assert rewritten == reply_of({"x": new, "kept": kept}, raw)
    assert same(decode(rewritten)["x"], new)
    if raw:
        client = InferResult(rewritten)
        assert same(client.as_numpy("x"), new)
        assert same(client.as_numpy("kept"), kept)


def output(datatype: str, *shape: int, **contents: Any) -> v2.ModelInferResponse:
    reply = v2.ModelInferResponse()
    reply.outputs.add(name="y", datatype=datatype, shape=shape, contents=contents)
    return reply


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            output("BYTES", 1, bytes_contents=[b"x"]),
            "output 'y' is of type 'BYTES', which is neither float nor integer",
        ),
        (output("BOOL", 1, bool_contents=[True]), "output 'y' is of type 'BOOL'"),
        (output("BF16", 1), "output 'y' is of type 'BF16'"),
        (output("", 1), "output 'y' is of type ''"),
        (output("FP32", 3, fp32_contents=[1]), r"output 'y' of type FP32 does not have the data that its shape \[3\]"),
        (output("FP32", -1, fp32_contents=[1]), "output 'y' of type FP32 does not have the data"),
        (output("FP32", -1, -1, fp32_contents=[1]), "output 'y' of type FP32 does not have the data"),
        (output("FP16", 1), "output 'y' of type FP16 does not have the data"),
        (output("FP32", 1 << 62, 1 << 62), "output 'y' of type FP32 does not have the data"),
        (v2.ModelInferResponse(raw_output_contents=[b""]), "0 outputs and 1 raw_output_contents"),
        (b"\x2a\x05", "not a valid ModelInferResponse"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_output(reply: v2.ModelInferResponse | bytes, says: str) -> None:
    with pytest.raises(OutputError, match=says):
        decode(reply)


def test_what_cannot_be_replaced() -> None:
    with pytest.raises(OutputError, match="no output 'z' to replace"):
        encode(v2.ModelInferResponse(), {"z": np.zeros(1)})
    with pytest.raises(OutputError, match="output 'y' of type FP16 has no typed contents"):
        encode(output("FP32", 1, fp32_contents=[1]), {"y": np.zeros(1, np.float16)})


@given(st.binary(max_size=100))
def test_any_bytes_are_outputs_or_a_clear_error(message: bytes) -> None:
    try:
        decode(message)
    except OutputError as error:
        assert str(error).endswith(".")  # noqa: PT017
