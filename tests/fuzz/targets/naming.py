"""Which model a call asks for, and the same call made to ask for another one."""

import zlib

from ext_proc.errors import CallError
from ext_proc.wire.call import Call
from ext_proc.wire.codecs import GRPC_CODECS
from ext_proc.wire.framing import frame, unframe
from ext_proc.wire.naming import Unnamed, name_call, write_model
from ext_proc.wire.rewrite import swap_model, swap_path
from mesh.protos import tfs_pb2
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target

METHODS = tuple(sorted(path for codec in GRPC_CODECS.values() for path in (*codec.methods, *codec.refused)))
PATHS = (
    "/v1/models/m:predict",
    "/v2/models/m/versions/3/infer",
    "/v1/models/m/labels/x/metadata",
    "/v2/models/m/config",
)
LIMIT = 1 << 20


def run(data: bytes) -> None:
    reader = Reader(data)
    headers = {":path": reader.pick((*METHODS, *PATHS, "")) or "/" + reader.text()}
    headers["content-type"] = reader.pick(("application/grpc", "application/json", "application/grpc+proto"))
    if reader.flag():
        headers["x-tbms-model"] = reader.text()
    encoding = headers["grpc-encoding"] = reader.pick(("identity", "gzip", "deflate", "br"))
    chunks = list(reader.chunks())
    try:
        call = name(headers, chunks)
        if call is None:
            return
        model, version = reader_name(data), "7" if len(data) % 3 == 0 else None
        if not call.protocol.is_grpc:
            headers[":path"] = swap_path(call, headers[":path"], model, version, None)
        else:
            message = unframe(chunks, encoding, LIMIT)
            chunks = [bytes(piece) for piece in swap_model(call, message, model, version, None)]
            headers.pop("x-tbms-model", None)
    except CallError:
        return
    again = name(headers, chunks)
    assert again is not None
    assert (again.model, again.version, again.label, again.verb) == (model, version, None, call.verb)


def name(headers: dict[str, str], chunks: list[bytes]) -> Call | None:
    named = name_call(headers, LIMIT)
    if isinstance(named, Unnamed):
        found = named.feed(b"", not chunks)
        for at, chunk in enumerate(chunks, start=1):
            found = found or named.feed(chunk, at == len(chunks))
        while found is None and named.waits:
            found = named.go_on()
        named = found
    if named is not None:
        write_model(named.model, named.version, named.label)
    return named


def reader_name(data: bytes) -> str:
    """Another name: one that needs no escapes, or one that does."""
    return ("other", "m 1", "é", "a:b%2f")[len(data) % 4]


SPEC = tfs_pb2.PredictRequest(model_spec=tfs_pb2.ModelSpec(name="bert", signature_name="s")).SerializeToString()
PREDICT = bytes([METHODS.index("/tensorflow.serving.PredictionService/Predict")])
MULTI = bytes([METHODS.index("/tensorflow.serving.PredictionService/MultiInference")])
INFER = bytes([METHODS.index("/inference.GRPCInferenceService/ModelInfer")])
packer = zlib.compressobj(wbits=31)
PACKED = packer.compress(SPEC) + packer.flush()
TARGET = Target(
    run,
    (
        PREDICT + b"\0\0\0\0" + frame(SPEC),
        PREDICT + b"\0\0\1\3\1" + len(PACKED).to_bytes(4, "big") + PACKED,
        MULTI + b"\0\0\0\2" + frame(b"\x0a" + bytes([len(SPEC)]) + SPEC),
        INFER + b"\0\0\0\0" + frame(b"\x0a\1m\x12\0013"),
        INFER + b"\0\1\x0cm/versions/9",
        *(bytes([len(METHODS) + at]) + b"\1\0\0" for at in range(len(PATHS))),
        bytes([len(METHODS) + len(PATHS)]) + b"\x13v1/models/m%41:info\1\0",
    ),
    (
        b"\x0a",
        b"\x12",
        b"\x0b",
        b"\x0c",
        b"\xff\xff\xff\xff\x0f",
        b"\x08\x01",
        b"/versions/",
        b"/labels/",
        b"%2F",
        b"models/",
        b":predict",
        SPEC,
    ),
)
