"""Calls that share a batch: read, padded, merged, cut and put together again."""

from ext_proc.batching.settings import InputPadding, PaddedOutput
from ext_proc.wire.batch import Alone, Member, ReplyMismatch
from ext_proc.wire.buckets import in_buckets
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import batches_of
from ext_proc.wire.forms import names_of
from ext_proc.wire.v2.across import Crossing, crossing, rest_reply
from ext_proc.wire.v2.rest_outputs import HEADER
from mesh.protos import tfs_pb2 as pb
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

CALLS = (
    Call(InferenceProtocol.V2_REST, Verb.INFER, "m"),
    Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m"),
    Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "m"),
    Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m"),
    Call(InferenceProtocol.TFS_REST, Verb.CLASSIFY, "m"),
    Call(InferenceProtocol.TFS_GRPC, Verb.REGRESS, "m"),
)
PADDINGS = (
    InputPadding(input="x", buckets=(2, 3), outputs=(PaddedOutput(name="x"),)),
    InputPadding(input="y", buckets=(4,), dim=2, value=7, outputs=(PaddedOutput(name="x", dim=2),)),
)
MOST = 1 << 14
V2_GRPC = batches_of(CALLS[1])


def run(data: bytes) -> None:
    reader = Reader(data)
    call, padded, told = reader.pick(CALLS), reader.flag(), reader.flag()
    codec = batches_of(call)
    request = reader.piece()
    headers = {HEADER: str(reader.number(255))} if told else {}
    member = codec.read(call, headers, request)
    if isinstance(member, Alone):
        return
    assert member.rows >= 1
    if padded:
        member = in_buckets(member, PADDINGS, MOST)
        assert member.size <= max(MOST, len(request) + (1 << 16))
    crossed = crossing(call, member)
    if isinstance(crossed, Crossing):
        assert isinstance(V2_GRPC.read(crossed.call, {}, V2_GRPC.merge([crossed.member]).body), Member)
    merged = codec.merge([member, member])
    again = codec.read(call, {**headers, **dict(merged.headers)}, merged.body)
    if isinstance(again, Alone):
        assert b"\\u" in merged.body  # names are written in ASCII, and those that are escaped are not read
    else:
        assert (again.rows, names_of(again.form)) == (2 * member.rows, names_of(member.form))
    pieces = codec.split(member, [1] * member.rows)
    assert sum(piece.rows for piece in pieces) == member.rows
    reply = reader.rest()
    try:
        parts = codec.cut(headers, reply, [member, member])
        assert len(parts) == 2
        if call.protocol is InferenceProtocol.V2_GRPC:
            rest_reply(parts[0].body)
        codec.join(headers, codec.cut(headers, reply, pieces), member)
    except ReplyMismatch:
        return


def piece(data: bytes) -> bytes:
    return len(data).to_bytes(1) + data


X = pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1.0])
for size in (1, 2):
    X.tensor_shape.dim.add(size=size)
PREDICT = pb.PredictRequest(model_spec={"name": "m"}, inputs={"x": X}).SerializeToString()
PREDICTED = pb.PredictResponse(outputs={"x": X}).SerializeToString()
EXAMPLES = pb.RegressionRequest(
    model_spec={"name": "m"}, input={"example_list_with_context": {"examples": [b"a", b""], "context": b"c"}}
).SerializeToString()
RESULTS = pb.RegressionResponse(result={"regressions": [{"value": 1}] * 4}).SerializeToString()
V2 = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT32","data":[7]}]}'
V2_REPLY = b'{"outputs":[{"name":"x","shape":[2,2],"datatype":"INT32","data":[7,0,7,0]}]}'
SIZED = b'{"name":"x","shape":[1,1],"datatype":"INT8","parameters":{"binary_data_size":1}}'
BYTES = b'{"parameters":{"binary_data_output":true},"inputs":[%s]}' % SIZED
ROWS = b'{"instances":[{"x":[1],"y":[[1]]}]}'
ROWS_REPLY = b'{"predictions":[{"x":[1,2]},{"x":[3,4]}]}'
TARGET = Target(
    run,
    (
        b"\0\1\0" + piece(V2) + V2_REPLY,
        b"\0\0\1" + piece(BYTES + b"7") + bytes([len(BYTES)]),
        b"\1\0\0" + piece(b"\x0a\1m\x2a\x0f\x0a\1x\x12\4FP32\x1a\2\1\1\x2a\0\x3a\4\0\0\0\0"),
        b"\2\1\0" + piece(ROWS) + ROWS_REPLY,
        b"\3\1\0" + piece(PREDICT) + PREDICTED,
        b"\4\0\0" + piece(b'{"context":{},"examples":[{"x":1},{"y":["a"]}]}') + b'{"results":[[["a",0.5]],[],[],[]]}',
        b"\5\0\0" + piece(EXAMPLES) + RESULTS,
    ),
    (
        b'"x"',
        b'"y"',
        b"[[1]]",
        b",",
        b'{"b64":"AA=="}',
        b"\x0a\1x",
        b"\x12\4\x12\2\x08\2",
        b"\x1a\2\1\2",
        b'"shape":[1,2]',
    ),
)
