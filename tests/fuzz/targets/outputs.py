"""Outputs of replies as arrays, combined, and written back: all four protocols, and V2's binary extension."""

import json
import zlib

from ext_proc.broker.mix import MemberOutputs, combine
from ext_proc.broker.plan import How
from ext_proc.errors import CallError
from ext_proc.protos import v2_reply_pb2
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.output_arrays import OutputError
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from ext_proc.wire.v2.rest_outputs import HEADER
from mesh.protos import tfs_pb2
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target
from tests.fuzz.targets.json_text import WORDS

PROTOCOLS = tuple(InferenceProtocol)
LIMIT = 1 << 20


def run(data: bytes) -> None:
    reader = Reader(data)
    protocol = reader.pick(PROTOCOLS)
    call = Call(protocol, reader.pick((Verb.PREDICT, Verb.INFER, Verb.CLASSIFY)), "m")
    headers: dict[str, str] = {}
    if reader.flag():
        headers["content-encoding"] = reader.pick(("identity", "gzip", "deflate", "br"))
    if reader.flag():
        headers[HEADER] = str(reader.number(1 << 16)) if reader.flag() else reader.text()
    how, body = reader.pick(tuple(How)), reader.rest()
    try:
        outputs = decode_outputs(call, headers, body, LIMIT)
        parts = [MemberOutputs(f"m{n}", weight, outputs) for n, weight in enumerate((1.0, 3.0))]
        mixed = combine(how, parts)
        rewritten = encode_outputs(call, headers, body, mixed, LIMIT)
    except (OutputError, CallError):
        return
    headers = {key: value for key, value in headers.items() if key not in rewritten.removed} | dict(rewritten.headers)
    again = decode_outputs(call, headers, rewritten.body, 1 << 30)
    assert {name: array.shape for name, array in again.items()} == {name: array.shape for name, array in mixed.items()}


TFS = tfs_pb2.PredictResponse()
TFS.outputs["y"].CopyFrom(tfs_pb2.TensorProto(dtype=tfs_pb2.DT_FLOAT, float_val=[1, 2]))
TFS.outputs["y"].tensor_shape.dim.add(size=2)
V2 = v2_reply_pb2.ModelInferResponse(outputs=[v2_reply_pb2.InferOutputTensor(name="y", datatype="INT32", shape=[1])])
V2.raw_output_contents.append(b"\1\0\0\0")
OUTPUT = {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
BINARY = json.dumps({"outputs": [OUTPUT]}).encode()
TARGET = Target(
    run,
    (
        b"\0\0\0\0\0" + TFS.SerializeToString(),
        b"\2\1\0\0\0" + V2.SerializeToString(),
        b'\1\0\0\0\0{"predictions": [{"a": [1.5], "b": 2}, {"a": [2.5], "b": 3}]}',
        b'\1\0\0\0\1{"outputs": {"a": [[1, 2]], "b": [18446744073709551615]}}',
        b"\1\0\1\1\0\0" + zlib.compress(b'{"outputs": [1]}', wbits=31),
        b'\3\1\0\0\0{"outputs": [{"name": "y", "datatype": "INT8", "shape": [1, 2], "data": [1, [2]]}]}',
        b"\3\1\0\1\1" + len(BINARY).to_bytes(4, "big") + b"\0" + BINARY + bytes(8),
    ),
    (
        b'"outputs": [',
        b'"data": ',
        b'"shape": [',
        b'"binary_data_size": ',
        b'"predictions": [',
        b'{"name": "y"}',
        *WORDS,
    ),
)
