import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.output_arrays import OutputError
from ext_proc.wire.outputs import Rewritten, decode_outputs, encode_outputs
from ext_proc.wire.protobuf.fields import len_field, varint_field
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors.dtypes import BY_NUMPY
from tests.ext_proc.wire.arrays import ARRAYS, LIMIT, NAMES, TFS_GRPC, Array, same


def decode(reply: tfs.PredictResponse | bytes) -> dict[str, Array]:
    message = reply if isinstance(reply, bytes) else reply.SerializeToString()
    return decode_outputs(TFS_GRPC, {}, message, LIMIT)


def encode(reply: tfs.PredictResponse, outputs: dict[str, Array]) -> tfs.PredictResponse:
    rewritten = encode_outputs(TFS_GRPC, {}, reply.SerializeToString(), outputs, LIMIT)
    assert rewritten == Rewritten(rewritten.body, (), ())
    return tfs.PredictResponse.FromString(rewritten.body)


def tensor(kind: str, *sizes: int, **fields: object) -> tfs.TensorProto:
    return tfs.TensorProto(dtype=kind, tensor_shape={"dim": [{"size": size} for size in sizes]}, **fields)


@given(st.dictionaries(NAMES, st.tuples(ARRAYS, st.booleans()), max_size=3))
def test_packed_and_typed_outputs_are_read(outputs: dict[str, tuple[Array, bool]]) -> None:
    reply = tfs.PredictResponse()
    for name, (array, packed) in outputs.items():
        dtype = BY_NUMPY[array.dtype]
        values = array.view(np.uint16) if array.dtype == np.float16 else array
        content = {"tensor_content": array.tobytes()} if packed else {dtype.tf_field: values.ravel().tolist()}
        reply.outputs[name].CopyFrom(tensor(tfs.DataType.Name(dtype.tf), *array.shape, **content))
    decoded = decode(reply)
    assert decoded.keys() == outputs.keys()
    assert all(same(decoded[name], array) for name, (array, _) in outputs.items())


@given(ARRAYS, ARRAYS, st.booleans())
def test_replaced_outputs_are_read_back_and_all_else_is_kept(old: Array, new: Array, packed: bool) -> None:
    reply = tfs.PredictResponse(model_spec={"name": "m", "version": {"value": 3}, "signature_name": "s"})
    reply.outputs["x"].CopyFrom(tensor("DT_FLOAT", 2, tensor_content=bytes(8)))
    if not packed:
        reply.outputs["x"].CopyFrom(tensor("DT_FLOAT", 2, float_val=[0, 0]))
    reply.outputs["kept"].CopyFrom(tensor("DT_STRING", 1, string_val=[b"\xff"]))
    unknown = len_field(15, b"unknown") + varint_field(16, 7)
    reply.MergeFromString(unknown)
    rewritten = encode(encode(reply, {"x": old}), {"x": new})
    assert rewritten.model_spec == reply.model_spec
    assert rewritten.outputs["kept"] == reply.outputs["kept"]
    assert unknown in rewritten.SerializeToString()
    if packed and old.size and new.size:
        assert rewritten.outputs["x"].tensor_content == new.tobytes()
    del rewritten.outputs["kept"]
    assert same(decode(rewritten)["x"], new)


def test_the_last_value_is_repeated() -> None:
    reply = tfs.PredictResponse(
        outputs={
            "few": tensor("DT_FLOAT", 2, 2, float_val=[1, 2]),
            "one": tensor("DT_INT64", 3, int64_val=[7]),
            "none": tensor("DT_INT32", 2),
            "half": tensor("DT_HALF", 2, half_val=[0x3C00]),
        }
    )
    decoded = decode(reply)
    assert decoded["few"].tolist() == [[1, 2], [2, 2]]
    assert decoded["one"].tolist() == [7, 7, 7]
    assert decoded["none"].tolist() == [0, 0]
    assert decoded["half"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (tensor("DT_STRING", 1, string_val=[b"x"]), "output 'y' is of type 'DT_STRING', which is neither float nor"),
        (tensor("DT_BOOL", 1, bool_val=[True]), "output 'y' is of type 'DT_BOOL'"),
        (tensor("DT_BFLOAT16", 1), "output 'y' is of type 'DT_BFLOAT16'"),
        (tfs.TensorProto(), "output 'y' is of type 'DT_INVALID'"),
        (tensor("DT_FLOAT", 3, tensor_content=b"1234"), "output 'y' is no tensor"),
        (tensor("DT_FLOAT", -1), "output 'y' is no tensor"),
        (tensor("DT_FLOAT", 1 << 40, 1 << 40, float_val=[1]), "output 'y' is no tensor"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_output(bad: tfs.TensorProto, says: str) -> None:
    with pytest.raises(OutputError, match=says):
        decode(tfs.PredictResponse(outputs={"y": bad}))


def test_what_is_no_reply() -> None:
    with pytest.raises(OutputError, match="not a valid PredictResponse"):
        decode(b"\x0a\x05")
    with pytest.raises(OutputError, match="no output 'z' to replace"):
        encode(tfs.PredictResponse(), {"z": np.zeros(1)})


@given(st.binary(max_size=100))
def test_any_bytes_are_outputs_or_a_clear_error(message: bytes) -> None:
    try:
        decode(message)
    except OutputError as error:
        assert str(error).endswith(".")  # noqa: PT017
