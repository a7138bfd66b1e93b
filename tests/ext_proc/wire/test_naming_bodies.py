"""Naming by the body of a gRPC call, in whatever chunks and with whatever fields it comes."""

import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.protobuf.fields import len_field, varint
from mesh.protos import tfs_pb2 as tfs
from tests.ext_proc.wire.messages import (
    CUTS,
    ENCODINGS,
    INFER,
    LIMIT,
    MULTI,
    PREDICT,
    STATISTICS,
    UNKNOWN,
    framed,
    name_body,
    name_chunks,
    outcome,
    unnamed,
)

TFS, V2 = InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC


@pytest.mark.parametrize("name", [b"", b"..", b"a/b", b"a\nb", b"\xff", b"x" * 256])
@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_a_bad_name_in_a_body(path: str, name: bytes) -> None:
    field = len_field(1, name)
    with pytest.raises(CallError) as caught:
        name_body(path, framed(field if path == INFER else len_field(1, field)))
    assert caught.value.reason is Reason.INVALID


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "ends before a message"),
        (b"\0\0\0", "ends before the head"),
        (b"\0\0\0\0\x0a\x0a", "ends after 1 of the 10 bytes"),
        (b"\x02\0\0\0\0", "flag byte 2"),
        (b"\x80\0\0\0\0", "flag byte 128"),
        (framed(b"\x12"), "cut off at byte 1"),
        (framed(b"\x12\x05ab"), "field 2 runs past the end of the message at byte 0"),
        (framed(b"\x12\xff\xff\xff\xff\x7f"), "field 2 runs past the end"),
        (framed(b"\x0a\x03\x0a\x05a"), "field 1 is cut off at byte 0"),
        (framed(b"\x0b"), "cut off"),
        (framed(b"\x0c"), "a group ends that was not begun at byte 0"),
        (framed(b"\x1b\x24"), "a group ends that was not begun at byte 1"),
        (framed(b"\x1b" * 101), "nested too deep"),
        (framed(b"\x02\x00"), "impossible field number"),
        (framed(b"\x0e"), "impossible wire type 6"),
        (framed(b"\x0f"), "impossible wire type 7"),
        (framed(b"\x80" * 10 + b"\x01"), "more than ten bytes at byte 0"),
        (framed(b"\xff\xff\xff\xff\xff\x01"), "impossible field number"),
        (framed(len_field(1, b"\x1b" * 200)), "nested too deep"),
        (framed(len_field(1, bytes(16_385))), "too large to name a model"),
        (framed(len_field(1, len_field(9, bytes(6_000))) * 3), "too large to name a model at byte 12"),
        (framed(b"\x10\x01" * 16_385), "more than 16384 fields at byte 32768"),
        (framed(b"\x1b" + b"\x10\x01" * 16_384), "more than 16384 fields at byte 32767"),
        (framed(len_field(1, b"\x28\x01" * 8_000)), "no name specified"),
    ],
)
def test_a_malformed_body_says_where(body: bytes, says: str) -> None:
    for cuts in ([], list(range(len(body)))):
        with pytest.raises(CallError) as caught:
            name_chunks(unnamed(PREDICT), body, cuts)
        assert caught.value.reason is Reason.INVALID
        assert says in caught.value.message


def test_a_message_over_the_limit_is_named_by_its_start() -> None:
    """The limit is for what is kept and unpacked; of this message only the start is read."""
    call = unnamed(PREDICT, limit=1000)
    assert call.feed(b"\0\0\0\x03", False) is None
    named = call.feed(b"\xe9" + len_field(1, len_field(1, b"m")), False)
    assert named is not None
    assert named.model == "m"


def test_what_a_bomb_unpacks_to_is_bounded() -> None:
    bomb = gzip.compress(len_field(2, bytes(64 * LIMIT)) + len_field(1, len_field(1, b"m")))
    body = b"\1" + len(bomb).to_bytes(4, "big") + bomb
    tracemalloc.start()
    with pytest.raises(CallError, match="larger than the limit") as caught:
        name_body(PREDICT, body, "gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE
    assert peak < LIMIT


def test_a_large_tensor_before_the_spec_is_not_kept() -> None:
    size, chunk = 64 << 20, bytes(1 << 16)
    call = unnamed(PREDICT, limit=size + 100)
    tail = len_field(1, len_field(1, b"m"))
    head = varint(2 << 3 | 2) + varint(size)
    tracemalloc.start()
    assert call.feed(b"\0" + (len(head) + size + len(tail)).to_bytes(4, "big") + head, False) is None
    for _ in range(size // len(chunk)):
        assert call.feed(chunk, False) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert call.feed(tail, True) == Call(TFS, Verb.PREDICT, "m")
    assert peak < 1 << 17


@pytest.mark.parametrize(
    ("encoding", "reason", "says"),
    [
        ("snappy", Reason.UNSUPPORTED, "'snappy' is not supported"),
        ("identity", Reason.INVALID, "its encoding names none"),
        (None, Reason.INVALID, "its encoding names none"),
        ("gzip", Reason.INVALID, "gzip data of the message is malformed"),
        ("deflate", Reason.INVALID, "deflate data of the message is malformed"),
    ],
)
def test_compression_that_cannot_be(encoding: str | None, reason: Reason, says: str) -> None:
    with pytest.raises(CallError) as caught:
        name_body(PREDICT, b"\1\0\0\0\x08notgzip!", encoding)
    assert caught.value.reason is reason
    assert says in caught.value.message


def test_compressed_data_has_one_end() -> None:
    packed = gzip.compress(len_field(2, b"x"))
    for broken, says in ((packed[:-4], "is cut off"), (packed + b"more", "has bytes after its end")):
        with pytest.raises(CallError, match=says):
            name_body(PREDICT, b"\1" + len(broken).to_bytes(4, "big") + broken, "gzip")


def test_a_message_that_is_not_compressed_may_come_in_a_compressed_call() -> None:
    request = tfs.PredictRequest(model_spec={"name": "m"})
    assert name_body(PREDICT, framed(request.SerializeToString()), "gzip") == Call(TFS, Verb.PREDICT, "m")


BODIES = st.binary(max_size=200) | st.binary(max_size=200).map(framed) | UNKNOWN.map(framed)


@settings(max_examples=500)
@given(st.sampled_from([PREDICT, MULTI, INFER, STATISTICS]), BODIES, CUTS, ENCODINGS)
def test_any_bytes_are_a_call_or_a_clear_error(path: str, body: bytes, cuts: list[int], encoding: str) -> None:
    whole = outcome(lambda: name_body(path, body, encoding))
    chunked = outcome(lambda: name_chunks(unnamed(path, encoding), body, cuts))
    if isinstance(whole, CallError):
        assert whole.message.isprintable()
        assert isinstance(chunked, CallError)
        assert chunked.reason is whole.reason
    else:
        assert chunked == whole
