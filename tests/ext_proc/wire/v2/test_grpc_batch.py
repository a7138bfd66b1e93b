from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as v2

from ext_proc.wire.batch import Alone, AloneReason, Member, ReplyMismatch, Written, padding
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import CODECS
from ext_proc.wire.protobuf.fields import len_field, varint, varint_field
from mesh.tensors.dtypes import DTYPES
from mesh.tensors.v2 import to_raw
from tests.ext_proc.wire.arrays import V2_GRPC, Array
from tests.ext_proc.wire.batching import UNKNOWN, Calls, calls_of, check

CODEC = CODECS[InferenceProtocol.V2_GRPC].batches
TYPED = tuple(dtype for dtype in DTYPES if dtype.v2_field)


def request(arrays: Mapping[str, Array], typed: bool, dtypes: Mapping[str, Any], **fields: Any) -> v2.ModelInferRequest:
    made = v2.ModelInferRequest(model_name="m", **fields)
    for name, array in arrays.items():
        tensor = made.inputs.add(name=name, datatype=dtypes[name].v2, shape=array.shape)
        if typed:
            getattr(tensor.contents, dtypes[name].v2_field).extend(array.ravel().tolist())
        else:
            made.raw_input_contents.append(to_raw(array))
    return made


def server(headers: Mapping[str, str], body: bytes) -> Written:
    """Says the inputs as outputs, in the order of their names, as they came: raw or typed."""
    asked = v2.ModelInferRequest.FromString(body)
    reply = v2.ModelInferResponse(model_name=asked.model_name, model_version="3", id=asked.id)
    reply.parameters["p"].int64_param = 5
    for at, tensor in sorted(enumerate(asked.inputs), key=lambda pair: pair[1].name):
        output = reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        output.parameters["q"].string_param = "kept"
        if asked.raw_input_contents:
            reply.raw_output_contents.append(asked.raw_input_contents[at])
        elif tensor.contents.ByteSize():
            output.contents.CopyFrom(tensor.contents)
    return Written(reply.SerializeToString())


def bodies(calls: Calls, typed: bool, **fields: Any) -> list[v2.ModelInferRequest]:
    dtypes = {each.name: each.dtype for each in calls.inputs}
    return [
        request(arrays, typed, dtypes, id=f"id-{at}" if at else "", **fields) for at, arrays in enumerate(calls.calls)
    ]


@given(calls_of(), UNKNOWN, st.data())
def test_raw_calls_get_what_they_get_alone(calls: Calls, unknown: bytes, data: st.DataObject) -> None:
    requests = [({}, made.SerializeToString() + unknown) for made in bodies(calls, False)]
    check(CODEC, V2_GRPC, server, requests, data.draw)


@given(calls_of(TYPED), st.data())
def test_typed_calls_get_what_they_get_alone(calls: Calls, data: st.DataObject) -> None:
    outputs = [{"name": each.name} for each in calls.inputs]
    requests = [({}, made.SerializeToString()) for made in bodies(calls, True, outputs=outputs)]
    check(CODEC, V2_GRPC, server, requests, data.draw)


def raw(rows: int = 2, **fields: Any) -> v2.ModelInferRequest:
    made = v2.ModelInferRequest(model_name="m", **fields)
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    made.raw_input_contents.append(np.arange(rows * 2, dtype=np.float32).tobytes())
    return made


def read(made: v2.ModelInferRequest | bytes, call: Call = V2_GRPC, **headers: str) -> Member | Alone:
    return CODEC.read(call, headers, made if isinstance(made, bytes) else made.SerializeToString())


def test_what_is_not_equal_shares_no_key() -> None:
    made = [raw() for _ in range(10)]
    made[1].inputs[0].shape[1] = 1
    made[1].raw_input_contents[0] = bytes(8)
    made[2].inputs[0].name = "y"
    made[3].inputs[0].datatype = "INT32"
    made[4].parameters["p"].int64_param = 1
    made[5].parameters["p"].int64_param = 2
    made[6].outputs.add(name="y")
    made[7].model_version = "2"
    made[8].inputs[0].parameters["p"].bool_param = True
    made[9].inputs[0].contents.fp32_contents.extend([0, 1, 2, 3])
    del made[9].raw_input_contents[:]
    members = [read(each) for each in made]
    members += [
        read(made[0].SerializeToString() + len_field(15, b"?")),
        read(made[0], **{"grpc-accept-encoding": "gzip"}),
    ]
    members.append(read(made[0], Call(InferenceProtocol.V2_GRPC, Verb.INFER, "other")))
    keys = {member.key for member in members if isinstance(member, Member)}
    assert len(keys) == len(members)
    assert read(raw(5, id="x")).key == members[0].key  # type: ignore[union-attr]


def edited(edit: str) -> v2.ModelInferRequest:
    made = raw()
    exec(edit, {"made": made, "tensor": made.inputs[0], "more": made.inputs.add})
    return made


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ("tensor.shape[:] = []", AloneReason.NO_BATCH_DIMENSION),
        ("tensor.shape[0] = 0; made.raw_input_contents[0] = b''", AloneReason.NO_ROWS),
        ("tensor.shape[0] = -1", AloneReason.NOT_UNDERSTOOD),
        ("tensor.shape[1] = -1", AloneReason.NOT_UNDERSTOOD),
        ("tensor.shape.extend([1] * 31)", AloneReason.NOT_UNDERSTOOD),
        ("tensor.shape[1] = 3", AloneReason.MISFIT),
        ("made.raw_input_contents.append(b'')", AloneReason.MISFIT),
        ("made.raw_input_contents[0] += b'1'", AloneReason.MISFIT),
        ("tensor.datatype = 'BYTES'; made.raw_input_contents[0] = bytes(15) + b'1'", AloneReason.MISFIT),
        ("tensor.datatype = 'BYTES'; made.raw_input_contents[0] = bytes(17)", AloneReason.MISFIT),
        ("tensor.datatype = 'BYTES'; tensor.shape[0] = 1 << 62", AloneReason.TOO_MANY),
        ("tensor.datatype = 'FP33'", AloneReason.NOT_UNDERSTOOD),
        ("tensor.contents.fp32_contents.extend([1, 2, 3, 4])", AloneReason.NOT_UNDERSTOOD),
        ("tensor.parameters['shared_memory_region'].string_param = 'r'", AloneReason.SHARED_MEMORY),
        ("made.outputs.add(name='y').parameters['shared_memory_region'].string_param = 'r'", AloneReason.SHARED_MEMORY),
        ("made.outputs.add(name='y').parameters['classification'].int64_param = 3", AloneReason.CLASSIFICATION),
        ("made.parameters['sequence_id'].int64_param = 3", AloneReason.SEQUENCE),
        (
            "more(name='y', datatype='FP32', shape=[1]); made.raw_input_contents.append(bytes(4))",
            AloneReason.ROWS_DIFFER,
        ),
        ("made.ClearField('inputs')", AloneReason.NO_TENSORS),
        ("made.inputs.extend([tensor] * 1024)", AloneReason.TOO_MANY),
        ("made.ClearField('raw_input_contents')", AloneReason.MISFIT),
        ("made.ClearField('raw_input_contents'); tensor.contents.fp64_contents.append(1)", AloneReason.NOT_UNDERSTOOD),
        ("made.ClearField('raw_input_contents'); tensor.contents.fp32_contents.append(1)", AloneReason.MISFIT),
    ],
)
def test_what_goes_alone(edit: str, reason: AloneReason) -> None:
    assert read(edited(edit)) == Alone(reason)


def test_what_is_no_plain_inference_goes_alone() -> None:
    body = raw().SerializeToString()
    assert read(body, Call(InferenceProtocol.V2_GRPC, Verb.STREAM_INFER, "m")) == Alone(AloneReason.STREAM)
    assert read(body, Call(InferenceProtocol.V2_GRPC, Verb.READY, "m")) == Alone(AloneReason.NO_TENSORS)
    assert read(body + len_field(1, b"m")) == Alone(AloneReason.NOT_UNDERSTOOD)
    assert read(body + b"\x0b\x0c") == Alone(AloneReason.NOT_UNDERSTOOD)
    assert read(body[:-1]) == Alone(AloneReason.NOT_UNDERSTOOD)


def test_what_is_not_packed_is_read_as_if_it_were() -> None:
    tensor = len_field(1, b"x") + len_field(2, b"INT64") + varint_field(3, 2) + varint_field(3, 2)
    values = [varint_field(3, 7), len_field(3, varint(8) + varint(300)), varint_field(3, 2**64 - 1)]
    body = len_field(1, b"m") + len_field(5, tensor + len_field(5, b"".join(values)))
    member = read(body)
    assert isinstance(member, Member)
    merged = v2.ModelInferRequest.FromString(CODEC.merge([member, member]).body)
    assert list(merged.inputs[0].shape) == [4, 2]
    assert list(merged.inputs[0].contents.int64_contents) == [7, 8, 300, -1] * 2


def reply(rows: int = 4) -> v2.ModelInferResponse:
    return v2.ModelInferResponse.FromString(server({}, raw(rows).SerializeToString()).body)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("made.outputs[0].shape[0] = 3", "has 3 rows, and 4 were asked for"),
        ("made.outputs[0].shape[1] = 3", "'x' of the reply has 8 values, where 4 rows have 12"),
        ("made.outputs[0].shape[:] = []", "no-batch-dimension"),
        ("made.outputs[0].datatype = ''", "not-understood"),
        ("made.raw_output_contents.append(b'')", "misfit"),
        ("made.ClearField('outputs')", "no-tensors"),
        ("made.outputs[0].name = 'y'", "other outputs than were asked for"),
        ("made.outputs.add(name='y', datatype='FP32', shape=[1]); made.raw_output_contents.append(bytes(4))", "differ"),
    ],
)
def test_a_reply_that_does_not_fit(edit: str, says: str) -> None:
    members = [read(raw(2, outputs=[{"name": "x"}]))] * 2
    made = reply()
    assert len(CODEC.cut({}, made.SerializeToString(), members)) == 2  # type: ignore[arg-type]
    exec(edit, {"made": made})
    with pytest.raises(ReplyMismatch, match=says):
        CODEC.cut({}, made.SerializeToString(), members)  # type: ignore[arg-type]


def test_pieces_whose_replies_differ_are_not_joined() -> None:
    member = read(raw(4))
    assert isinstance(member, Member)
    one, other = reply(2), reply(2)
    assert CODEC.join({}, [Written(one.SerializeToString())] * 2, member).body == b"".join(
        [reply(4).SerializeToString()[:-32], one.raw_output_contents[0], one.raw_output_contents[0]]
    )
    other.model_version = "4"
    with pytest.raises(ReplyMismatch, match="differ in more than their rows"):
        CODEC.join({}, [Written(each.SerializeToString()) for each in (one, other)], member)
    with pytest.raises(ReplyMismatch, match="got 2 rows, and 4"):
        CODEC.join({}, [Written(one.SerializeToString())], member)


def test_padding_repeats_the_last_row() -> None:
    member = read(raw(2))
    assert isinstance(member, Member)
    merged = v2.ModelInferRequest.FromString(CODEC.merge([member, *padding(CODEC, member, 2)]).body)
    values = np.frombuffer(merged.raw_input_contents[0], np.float32).reshape(merged.inputs[0].shape)
    assert values.tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]


@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, 100))
def test_any_bytes_are_read_and_cut_or_told_of(noise: bytes, few: bytes, at: int) -> None:
    good = raw().SerializeToString()
    for body in (noise, good[:at] + few + good[at:]):
        read(body)
    member = read(good)
    assert isinstance(member, Member)
    answer = reply(2).SerializeToString()
    for body in (noise, answer[:at] + few + answer[at:]):
        try:
            CODEC.cut({}, body, [member])
        except ReplyMismatch as error:
            assert str(error).endswith(".")  # noqa: PT017
