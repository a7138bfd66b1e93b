"""A rewritten call is the client's own message with another model in it."""

import gzip
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.naming import name_call
from ext_proc.wire.protobuf.fields import len_field
from ext_proc.wire.rewrite import swap_path
from mesh.protos import tfs_pb2 as tfs
from tests.ext_proc.wire.messages import (
    CHOICES,
    GOOD_NAMES,
    LIMIT,
    PREDICT,
    framed,
    swap,
    swap_body,
)


@pytest.mark.parametrize(
    ("model", "version", "label"), [("a/b", None, None), ("..", None, None), ("n", "x", None), ("n", None, "a/b")]
)
def test_the_other_model_is_checked_too(model: str, version: str | None, label: str | None) -> None:
    call = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
    with pytest.raises(CallError):
        swap_body(call, framed(b""), model, version, label, encoding="identity", limit=LIMIT)
    with pytest.raises(CallError):
        swap_path(Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "m"), "/v1/models/m:predict", model, version, label)


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (framed(b"\x0a\x05a"), Reason.INVALID, "field 1 is cut off"),
        (framed(len_field(1, b"\x0a\x05a")), Reason.INVALID, "field 1 is cut off"),
        (framed(b"") + framed(b""), Reason.INVALID, "more than one message"),
        (framed(b"")[:4], Reason.INVALID, "ends before the head"),
        (framed(b"\0" * 2000), Reason.TOO_LARGE, "2000 bytes against 1000"),
        (framed(len_field(2, b"\0" * 2000), "gzip"), Reason.TOO_LARGE, "larger than the limit"),
    ],
)
def test_what_cannot_be_swapped(body: bytes, reason: Reason, says: str) -> None:
    call = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
    with pytest.raises(CallError, match=says) as caught:
        swap_body(call, body, "n", None, None, encoding="gzip", limit=1000)
    assert caught.value.reason is reason


PATHS = st.sampled_from(
    [
        "/v1/models/m:predict",
        "/v1/models/m:regress?q=1",
        "/v1/models/m/versions/3",
        "/v1/models/m/labels/l/metadata",
        "/v2/models/m",
        "/v2/models/m/infer",
        "/v2/models/m/stats",
        "/v2/models/m/versions/3/ready?q",
    ]
)


@given(PATHS, GOOD_NAMES, CHOICES)
def test_a_swapped_path_names_the_other_model(path: str, model: str, choice: tuple[str | None, str | None]) -> None:
    version, label = choice
    call = name_call({":path": path}, LIMIT)
    assert isinstance(call, Call)
    if call.protocol is InferenceProtocol.V2_REST:
        label = None
    swapped = swap_path(call, path, model, version, label)
    named = name_call({":path": swapped}, LIMIT)
    if model == "stats" and swapped == "/v2/models/stats":
        assert named is None, "Triton's statistics of all models shadow this one"
    else:
        assert named == Call(call.protocol, call.verb, model, version, label)
    assert swapped.partition("?")[2] == path.partition("?")[2]
    assert quote(swapped, safe="/?:=!$&'()*+,;@%") == swapped


def test_gzip_is_unpacked_once() -> None:
    message = tfs.PredictRequest(model_spec={"name": "m"}).SerializeToString()
    packed = gzip.compress(message)
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert swap(PREDICT, body, "m", encoding="gzip") == message
