from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.batch import Alone, AloneReason, Member, ReplyMismatch, Written, padding
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import CODECS
from ext_proc.wire.protobuf.fields import len_field, varint, varint_field
from ext_proc.wire.tfs.grpc_batch import MAX_FILL
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.dtypes import BY_TF, STRING, Array
from tests.ext_proc.wire.arrays import TFS_GRPC
from tests.ext_proc.wire.batching import UNKNOWN, Calls, calls_of, check
from tests.ext_proc.wire.messages import SPECS

CODEC = CODECS[InferenceProtocol.TFS_GRPC].batches


def packed(array: Array, dtype: Any) -> tfs.TensorProto:
    made = tfs.TensorProto(dtype=dtype.tf, tensor_content=array.tobytes())
    for size in array.shape:
        made.tensor_shape.dim.add(size=size)
    return made


def server(headers: Mapping[str, str], body: bytes) -> Written:
    """Says the inputs as outputs, in the order of their names, each as it came."""
    asked = tfs.PredictRequest.FromString(body)
    reply = tfs.PredictResponse(model_spec=asked.model_spec)
    entries = b"".join(
        len_field(1, len_field(1, name.encode()) + len_field(2, tensor.SerializeToString()))
        for name, tensor in sorted(asked.inputs.items())
    )
    return Written(entries + reply.SerializeToString())


@given(calls_of(), SPECS, st.lists(st.text(max_size=5), max_size=2), UNKNOWN, st.data())
def test_calls_get_what_they_get_alone(
    calls: Calls, spec: tfs.ModelSpec, wanted: list[str], unknown: bytes, data: st.DataObject
) -> None:
    typed = {each.name: each.dtype is STRING or data.draw(st.booleans()) for each in calls.inputs}
    names = [each.name for each in calls.inputs] if wanted else []
    requests = []
    for arrays in calls.calls:
        made = tfs.PredictRequest(model_spec=spec, output_filter=names)
        for each in calls.inputs:
            array = arrays[each.name]
            made.inputs[each.name].CopyFrom(tf_tensors.encode(array) if typed[each.name] else packed(array, each.dtype))
        requests.append(({}, made.SerializeToString() + unknown))
    check(CODEC, TFS_GRPC, server, requests, data.draw)


def tensor(kind: str = "DT_FLOAT", *sizes: int, **fields: Any) -> tfs.TensorProto:
    return tfs.TensorProto(dtype=kind, tensor_shape={"dim": [{"size": size} for size in sizes]}, **fields)


PAIRS = tensor("DT_FLOAT", 2, 2, float_val=[1, 2, 3, 4])


def request(x: tfs.TensorProto = PAIRS, **fields: Any) -> tfs.PredictRequest:
    return tfs.PredictRequest(**{"model_spec": {"name": "m"}, "inputs": {"x": x}} | fields)


def read(made: tfs.PredictRequest | bytes, verb: Verb = Verb.PREDICT) -> Member | Alone:
    call = Call(InferenceProtocol.TFS_GRPC, verb, "m")
    return CODEC.read(call, {}, made if isinstance(made, bytes) else made.SerializeToString())


def member_of(made: tfs.PredictRequest | bytes) -> Member:
    member = read(made)
    assert isinstance(member, Member), member
    return member


def merged(*made: tfs.PredictRequest | bytes) -> tfs.PredictRequest:
    return tfs.PredictRequest.FromString(CODEC.merge([member_of(each) for each in made]).body)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in tfs.DataType.values()
        if kind not in BY_TF
        and tfs.DataType.Name(kind) not in ("DT_INVALID", "DT_RESOURCE", "DT_VARIANT")
        and not tfs.DataType.Name(kind).startswith(("DT_FLOAT8", "DT_INT4", "DT_UINT4"))
    ],
)
def test_types_that_numpy_lacks_are_carried_too(kind: int) -> None:
    width = {"DT_COMPLEX64": 8, "DT_COMPLEX128": 16, "DT_QINT32": 4}.get(tfs.DataType.Name(kind))
    width = width or (1 if tfs.DataType.Name(kind).endswith("INT8") else 2)
    field = {"DT_COMPLEX64": "scomplex_val", "DT_COMPLEX128": "dcomplex_val", "DT_BFLOAT16": "half_val"}
    name = field.get(tfs.DataType.Name(kind), "int_val")
    values = list(range(100, 108 if "complex" in name else 104))
    whole = tensor(kind, 2, 2, **{name: values})  # type: ignore[arg-type]
    assert merged(request(whole), request(whole)).inputs["x"] == tensor(kind, 4, 2, **{name: values * 2})  # type: ignore[arg-type]
    content = bytes(range(4 * width))
    whole = tensor(kind, 2, 2, tensor_content=content)  # type: ignore[arg-type]
    one, two = CODEC.split(member_of(request(whole)), [1, 1])
    again = tfs.PredictRequest.FromString(CODEC.merge([two, one]).body).inputs["x"]
    assert again.tensor_content == content[2 * width :] + content[: 2 * width]


@pytest.mark.parametrize(
    ("few", "whole"),
    [
        (tensor("DT_FLOAT", 2, 2, float_val=[1, 2]), [1, 2, 2, 2]),
        (tensor("DT_INT64", 2, 2, int64_val=[-1]), [-1] * 4),
        (tensor("DT_INT32", 2, 2, int_val=[5, 300]), [5, 300, 300, 300]),
        (tensor("DT_INT64", 2, 150, int64_val=range(200)), [*range(200)] + [199] * 100),
        (tensor("DT_INT32", 2, 2), [0] * 4),
        (tensor("DT_DOUBLE", 2, 2), [0] * 4),
        (tensor("DT_STRING", 2, 2, string_val=[b"a", b"b" * 200]), [b"a"] + [b"b" * 200] * 3),
        (tensor("DT_STRING", 2, 2), [b""] * 4),
        (tensor("DT_BOOL", 2, 2, bool_val=[False, True]), [False, True, True, True]),
    ],
)
def test_the_last_value_is_repeated(few: tfs.TensorProto, whole: list[Any]) -> None:
    twice = merged(request(few), request(few)).inputs["x"]
    assert tf_tensors.decode(twice).tolist() == np.array(whole + whole, object).reshape(4, -1).tolist()
    assert tf_tensors.decode(few).ravel().tolist() == whole
    full = tensor(few.dtype, 2, few.tensor_shape.dim[1].size, **{BY_TF[few.dtype].tf_field: whole})  # type: ignore[arg-type]
    assert member_of(request(full)).key == member_of(request(few)).key


def test_few_bytes_do_not_become_many() -> None:
    last = MAX_FILL // 4
    assert member_of(request(tensor("DT_FLOAT", last + 1, float_val=[1]))).size == MAX_FILL + 4
    assert read(request(tensor("DT_FLOAT", last + 2, float_val=[1]))) == Alone(AloneReason.TOO_MANY)
    assert read(request(tensor("DT_FLOAT", 1 << 62, 1 << 62, float_val=[1]))) == Alone(AloneReason.TOO_MANY)


def test_what_is_not_packed_is_read_as_if_it_were() -> None:
    values = [varint_field(10, 7), len_field(10, varint(8) + varint(300)), varint_field(10, 2**64 - 1)]
    shape = tensor("DT_INT64", 2, 2).SerializeToString()
    entry = len_field(1, b"x") + len_field(2, shape + b"".join(values))
    both = merged(len_field(2, entry), len_field(2, entry)).inputs["x"]
    assert both == tensor("DT_INT64", 4, 2, int64_val=[7, 8, 300, -1] * 2)


def test_what_is_not_equal_shares_no_key() -> None:
    made = [
        request(),
        request(model_spec={"name": "n"}),
        request(model_spec={"name": "m", "version": {"value": 1}}),
        request(model_spec={"name": "m", "version_label": "1"}),
        request(model_spec={"name": "m", "signature_name": "s"}),
        request(inputs={"y": PAIRS}),
        request(inputs={"x": PAIRS, "y": PAIRS}),
        request(output_filter=["y"]),
        request(output_filter=["y", "z"]),
        request(output_filter=["z", "y"]),
        request(tensor("DT_INT32", 2, 2, int_val=[1])),
        request(tensor("DT_FLOAT", 2, 3, float_val=[1])),
        request(tensor("DT_FLOAT", 2, 2, float_val=[1], version_number=1)),
        request(tensor("DT_FLOAT", 2, 2, tensor_content=bytes(16))),
    ]
    members = [*map(member_of, made), member_of(made[0].SerializeToString() + len_field(15, b"?"))]
    assert len({member.key for member in members}) == len(members)
    assert member_of(request(tensor("DT_FLOAT", 1, 2, float_val=[3, 4]))).key == members[0].key


ENTRY = len_field(1, b"x") + len_field(2, PAIRS.SerializeToString())


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (request(tensor("DT_FLOAT", float_val=[1])), AloneReason.NO_BATCH_DIMENSION),
        (request(tensor("DT_FLOAT", 0, 2)), AloneReason.NO_ROWS),
        (request(tensor("DT_FLOAT", -1, 2)), AloneReason.NOT_UNDERSTOOD),
        (request(tensor("DT_FLOAT", *[1] * 33, float_val=[1])), AloneReason.NOT_UNDERSTOOD),
        (request(tfs.TensorProto(dtype="DT_FLOAT", tensor_shape={"unknown_rank": True})), AloneReason.NOT_UNDERSTOOD),
        (
            request(tfs.TensorProto(dtype="DT_FLOAT", tensor_shape={"dim": [{"size": 1, "name": "rows"}]})),
            AloneReason.NOT_UNDERSTOOD,
        ),
        (request(tensor("DT_FLOAT", 1, float_val=[1, 2])), AloneReason.MISFIT),
        (request(tensor("DT_FLOAT", 1, tensor_content=bytes(5))), AloneReason.MISFIT),
        (request(tensor("DT_COMPLEX64", 1, scomplex_val=[1])), AloneReason.MISFIT),
        (request(tensor("DT_FLOAT", 1, tensor_content=bytes(4), float_val=[1])), AloneReason.NOT_UNDERSTOOD),
        (request(tensor("DT_FLOAT", 1, double_val=[1])), AloneReason.NOT_UNDERSTOOD),
        (request(tensor("DT_STRING", 1, tensor_content=b"\1a")), AloneReason.NOT_UNDERSTOOD),
        (request(tensor("DT_VARIANT", 1)), AloneReason.NOT_UNDERSTOOD),
        (request(tfs.TensorProto()), AloneReason.NO_BATCH_DIMENSION),
        (request(inputs={"x": PAIRS, "y": tensor("DT_FLOAT", 1, float_val=[1])}), AloneReason.ROWS_DIFFER),
        (request(inputs={}), AloneReason.NO_TENSORS),
        (request(inputs={str(at): PAIRS for at in range(1025)}), AloneReason.TOO_MANY),
        (len_field(2, ENTRY) * 2, AloneReason.NOT_UNDERSTOOD),
        (len_field(2, ENTRY + len_field(1, b"y")), AloneReason.NOT_UNDERSTOOD),
        (len_field(2, len_field(1, b"x")), AloneReason.NOT_UNDERSTOOD),
        (request().SerializeToString() + len_field(1, len_field(1, b"m")), AloneReason.NOT_UNDERSTOOD),
        (request().SerializeToString()[:-1], AloneReason.NOT_UNDERSTOOD),
        (len_field(2, len_field(1, b"\xff") + len_field(2, PAIRS.SerializeToString())), AloneReason.NOT_UNDERSTOOD),
    ],
)
def test_what_goes_alone(made: tfs.PredictRequest | bytes, reason: AloneReason) -> None:
    assert read(made) == Alone(reason)


def test_calls_of_other_kinds_go_alone() -> None:
    assert read(request(), Verb.MULTI_INFERENCE) == Alone(AloneReason.EXAMPLES)
    assert read(request(), Verb.METADATA) == Alone(AloneReason.NO_TENSORS)


def response(**outputs: tfs.TensorProto) -> tfs.PredictResponse:
    return tfs.PredictResponse(outputs=outputs, model_spec={"name": "m", "version": {"value": 3}})


EIGHT = tensor("DT_FLOAT", 4, 2, float_val=range(8))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (response(x=tensor("DT_FLOAT", 3, 2, float_val=range(6))), "has 3 rows, and 4 were asked for"),
        (
            response(x=tensor("DT_FLOAT", 4, 2, float_val=range(7))),
            "'x' of the reply has 7 values, where 4 rows have 8",
        ),
        (response(x=tensor("DT_FLOAT", 4, 2, tensor_content=bytes(31))), "'x' of the reply has 31 bytes"),
        (response(x=EIGHT, y=tensor("DT_FLOAT", float_val=[1])), "no-batch-dimension"),
        (response(x=EIGHT, y=tensor("DT_FLOAT", 1, float_val=[1])), "rows-differ"),
        (response(x=tensor("DT_RESOURCE", 4)), "not-understood"),
        (response(y=EIGHT), "other outputs than were asked for"),
        (response(), "no-tensors"),
    ],
)
def test_a_reply_that_does_not_fit(reply: tfs.PredictResponse, says: str) -> None:
    members = [member_of(request(output_filter=["x"]))] * 2
    parts = CODEC.cut({}, response(x=EIGHT).SerializeToString(), members)
    assert [tfs.PredictResponse.FromString(part.body) for part in parts] == [
        response(x=tensor("DT_FLOAT", 2, 2, float_val=range(first, first + 4))) for first in (0, 4)
    ]
    with pytest.raises(ReplyMismatch, match=says):
        CODEC.cut({}, reply.SerializeToString(), members)


def test_pieces_are_joined_whatever_the_order_of_their_outputs() -> None:
    one = len_field(1, len_field(1, b"a") + len_field(2, tensor("DT_INT64", 1, int64_val=[1]).SerializeToString()))
    two = len_field(1, len_field(1, b"b") + len_field(2, tensor("DT_INT64", 1, int64_val=[2]).SerializeToString()))
    member = member_of(request())
    joined = tfs.PredictResponse.FromString(CODEC.join({}, [Written(one + two), Written(two + one)], member).body)
    assert joined.outputs["a"] == tensor("DT_INT64", 2, int64_val=[1, 1])
    assert joined.outputs["b"] == tensor("DT_INT64", 2, int64_val=[2, 2])
    for other in (one, one + two + len_field(2, b"")):
        with pytest.raises(ReplyMismatch, match="differ in more than their rows"):
            CODEC.join({}, [Written(one + two), Written(other)], member)


def test_padding_repeats_the_last_row() -> None:
    member = member_of(request())
    padded = tfs.PredictRequest.FromString(CODEC.merge([member, *padding(CODEC, member, 2)]).body)
    assert padded.inputs["x"] == tensor("DT_FLOAT", 4, 2, float_val=[1, 2, 3, 4, 3, 4, 3, 4])


@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, 60), st.integers(0, 5))
def test_any_bytes_are_read_and_cut_or_told_of(noise: bytes, few: bytes, at: int, cut: int) -> None:
    good = request().SerializeToString()
    for body in (noise, good[:at] + few + good[at + cut :]):
        read(body)
    member = member_of(good)
    reply = response(x=PAIRS).SerializeToString()
    for body in (noise, reply[:at] + few + reply[at + cut :]):
        try:
            CODEC.cut({}, body, [member])
        except ReplyMismatch as error:
            assert str(error).endswith(".")  # noqa: PT017
