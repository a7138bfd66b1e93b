"""Requests of both APIs as real clients' libraries write them, and the ways in which bytes arrive."""

import gzip
import itertools
import zlib
from collections.abc import Callable

from google.protobuf.message import Message
from hypothesis import strategies as st

from ext_proc.errors import CallError
from ext_proc.wire.call import Call
from ext_proc.wire.framing import unframe
from ext_proc.wire.naming import Unnamed, name_call
from ext_proc.wire.protobuf.fields import len_field, varint, varint_field
from ext_proc.wire.rewrite import swap_model
from mesh.protos import tfs_pb2 as tfs

LIMIT = 1 << 20
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MULTI = "/tensorflow.serving.PredictionService/MultiInference"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"

NAMES = st.text(st.characters(min_codepoint=32, exclude_characters="/\\", exclude_categories=("Cc", "Cs", "Zl", "Zp")))
GOOD_NAMES = NAMES.filter(lambda name: 0 < len(name.encode()) <= 255 and name not in (".", ".."))
VERSIONS = st.integers(0, 2**63 - 1)
CHOICES = st.one_of(st.just((None, None)), st.tuples(VERSIONS.map(str), st.none()), st.tuples(st.none(), GOOD_NAMES))


@st.composite
def unknown_fields(draw: st.DrawFn, groups: bool = True) -> bytes:
    """Fields that no request has, of every wire type; groups are nested."""
    number = draw(st.sampled_from([15, 16, 100, 536870911]))
    kind = draw(st.integers(0, 4 if groups else 3))
    if kind == 0:
        return varint_field(number, draw(st.integers(0, 2**64 - 1)))
    if kind == 1:
        return varint(number << 3 | 1) + draw(st.binary(min_size=8, max_size=8))
    if kind == 2:
        return len_field(number, draw(st.binary(max_size=300)))
    if kind == 3:
        return varint(number << 3 | 5) + draw(st.binary(min_size=4, max_size=4))
    inside = [*draw(st.lists(unknown_fields(), max_size=2)), len_field(1, b"\x0a\x05wrong"), len_field(2, b"9")]
    return varint(number << 3 | 3) + b"".join(inside) + varint(number << 3 | 4)


SPECS = st.builds(
    lambda name, choice, signature: tfs.ModelSpec(name=name, signature_name=signature, **choice),
    GOOD_NAMES,
    st.one_of(
        st.just({}),
        VERSIONS.map(lambda version: {"version": {"value": version}}),
        GOOD_NAMES.map(lambda label: {"version_label": label}),
    ),
    st.text(max_size=20),
)
UNKNOWN = st.lists(unknown_fields(), max_size=3).map(b"".join)
CUTS = st.lists(st.integers(0, 2**16), max_size=6)
ENCODINGS = st.sampled_from(["identity", "gzip", "deflate"])


def framed(message: bytes, encoding: str = "identity") -> bytes:
    if encoding == "gzip":
        message = gzip.compress(message, mtime=0)
    elif encoding == "deflate":
        message = zlib.compress(message)
    return bytes([encoding != "identity"]) + len(message).to_bytes(4, "big") + message


def by_path(path: str, method: str = "POST") -> Call | Unnamed | None:
    return name_call({":path": path, ":method": method, "content-type": "application/json"}, LIMIT)


def unnamed(path: str, encoding: str | None = None, limit: int = LIMIT) -> Unnamed:
    headers = {":path": path, ":method": "POST", "content-type": "application/grpc"}
    if encoding is not None:
        headers["grpc-encoding"] = encoding
    found = name_call(headers, limit)
    assert isinstance(found, Unnamed)
    return found


def name_body(path: str, body: bytes | Message, encoding: str | None = None, limit: int = LIMIT) -> Call | None:
    """Names a call by its whole body at once; a message is framed first."""
    if isinstance(body, Message):
        body = framed(body.SerializeToString(), encoding or "identity")
    call = unnamed(path, encoding, limit)
    named = call.feed(body, True)
    while call.waits:
        named = call.go_on()
    return named


def name_chunks(call: Unnamed, body: bytes, cuts: list[int]) -> Call | None:
    """Names a call by its body in chunks; as Envoy does, ends with an empty one."""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        named = call.feed(body[start:end], False)
        if named is not None:
            return named
    return call.feed(b"", True)


def outcome(naming: Callable[[], Call | Unnamed | None]) -> Call | Unnamed | CallError | None:
    """What a naming gives, be it a refusal; any other exception is a failure of the test."""
    try:
        return naming()
    except CallError as error:
        return error


def swap_body(
    call: Call,
    body: bytes,
    model: str,
    version: str | None = None,
    label: str | None = None,
    *,
    encoding: str = "identity",
    limit: int = LIMIT,
) -> bytes:
    """The body as a held call is renamed: unpacked, and then asking for another model."""
    return b"".join(swap_model(call, unframe((body,), encoding, limit), model, version, label))


def swap(
    path: str, body: bytes, model: str, version: str | None = None, label: str | None = None, encoding: str = "identity"
) -> bytes:
    call = name_body(path, body, encoding)
    assert call is not None
    out = swap_body(call, body, model, version, label, encoding=encoding)
    assert out[0] == 0
    assert int.from_bytes(out[1:5], "big") == len(out) - 5
    return out[5:]
