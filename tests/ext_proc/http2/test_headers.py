from typing import Any

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2.frames import ConnectionFault, ErrorCode
from ext_proc.http2.headers import OVERSIZED_REQUEST, HeaderDecoder, RequestHeaders, read_request_headers
from ext_proc.http2.limits import Limits
from tests.ext_proc.http2.peer import HEADERS, PATH

LIMIT = Limits().headers


def decoder() -> HeaderDecoder[RequestHeaders]:
    return HeaderDecoder(Limits(), read_request_headers, OVERSIZED_REQUEST, lambda _: None)


def plainly(headers: Any) -> bytes:
    """Without Huffman codes, for which the encoder's time grows with the square of a value's length."""
    return hpack.Encoder().encode(headers, huffman=False)


def decode(headers: Any) -> RequestHeaders:
    return decoder().decode(hpack.Encoder().encode(headers))


def test_a_request_is_read() -> None:
    head = decode([*HEADERS, ("a", "1"), ("b", "x"), ("a", "2")])
    assert (head.method, head.path, head.malformed) == ("POST", PATH, "")
    assert head.metadata == {
        ":authority": "test",
        "te": "trailers",
        "content-type": "application/grpc",
        "a": "1,2",
        "b": "x",
    }


@pytest.mark.parametrize(
    ("kind", "is_grpc"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc;x=1", True),
        ("application/grpc-web", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_only_the_content_types_of_grpc_are_taken(kind: str, is_grpc: bool) -> None:
    assert decode([*HEADERS[:-1], ("content-type", kind)]).is_grpc is is_grpc


@pytest.mark.parametrize(
    "headers",
    [
        [],
        HEADERS[1:],
        [field for field in HEADERS if field[0] != ":path"],
        [*HEADERS[:2], (":path", ""), *HEADERS[3:]],
        [(":method", "POST"), *HEADERS],
        [("a", "b"), *HEADERS],
        [(":status", "200"), *HEADERS],
        [*HEADERS, ("Upper", "case")],
        [*HEADERS, ("", "nameless")],
        [*HEADERS, ("with space", "x")],
        [*HEADERS, ("a", "line\r\nbreak")],
        [*HEADERS, ("a", "nul\0")],
        [*HEADERS, ("connection", "close")],
        [*HEADERS, ("transfer-encoding", "chunked")],
        [*HEADERS, ("te", "gzip")],
    ],
)
def test_malformed_requests_are_told_apart_from_undecodable_ones(headers: Any) -> None:
    assert decode(headers).malformed


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\xff\xff\xff\xff\xff\xff\xff", ErrorCode.COMPRESSION_ERROR),
        (b"\xc0", ErrorCode.COMPRESSION_ERROR),  # an index beyond the tables
        (b"\x00\x05ab", ErrorCode.COMPRESSION_ERROR),
        (b"\x3f\xe2\x1f", ErrorCode.COMPRESSION_ERROR),  # a table larger than ours
        (plainly([("a", "x" * 5 * LIMIT)] * 2), ErrorCode.ENHANCE_YOUR_CALM),
        # A small block that unpacks to much: one entry of 4,000 bytes, a hundred times.
        (plainly([("a", "x" * 4000)] * 100), ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_blocks_that_cannot_be_decoded_end_the_connection(block: bytes, code: ErrorCode) -> None:
    with pytest.raises(ConnectionFault) as caught:
        decoder().decode(block)
    assert caught.value.code is code


@given(st.binary(max_size=200))
def test_no_block_raises_anything_else(block: bytes) -> None:
    ours = decoder()
    try:
        ours.decode(block)
        ours.decode(block)
    except ConnectionFault:
        pass


NAMES, VALUES = st.sampled_from(["a", "b", "c", "content-type"]), st.sampled_from(["1", "2", "x" * 1500])
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=5)


@given(st.lists(st.tuples(FIELDS, st.sampled_from([None, 0, 64, 4096])), max_size=12))
def test_a_block_that_is_remembered_says_what_it_would_say_if_it_were_decoded(steps: Any) -> None:
    """Against a decoder that remembers nothing, over blocks that index, evict, and change the table's size."""
    encoder, plain, ours = hpack.Encoder(), hpack.Decoder(), decoder()
    for fields, size in steps:
        if size is not None:
            encoder.header_table_size = size
        for _ in range(3):  # by the third time most blocks are the same bytes as before
            block = encoder.encode([*HEADERS[:4], *fields])
            expected = {":authority": "test"}
            for name, value in list(plain.decode(block))[4:]:
                expected[name] = f"{expected[name]},{value}" if name in expected else value
            assert ours.decode(block).metadata == expected


def test_a_block_is_decoded_once_as_long_as_the_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, ours = hpack.Encoder(), decoder()
    for _ in range(2):
        ours.decode(encoder.encode(HEADERS))
    first = ours.decode(block := encoder.encode(HEADERS))
    assert ours.decode(block) is first
    ours.decode(encoder.encode([*HEADERS, ("new", "entry")]))  # every index means something else now
    assert ours.decode(block) != first


@pytest.mark.parametrize(
    "over",
    [
        [("a", "x" * LIMIT)],
        [(f"f{number}", "v") for number in range(Limits().fields + 1)],
        [("a", "x" * 4000)] * 20,
    ],
)
def test_a_list_over_the_limit_says_so_and_the_next_block_is_read(over: Any) -> None:
    encoder, ours = hpack.Encoder(), decoder()
    ours.decode(encoder.encode([*HEADERS, ("kept", "in the table")]))
    for _ in range(2):
        assert ours.decode(encoder.encode(over, huffman=False)) is OVERSIZED_REQUEST
        head = ours.decode(encoder.encode([*HEADERS, ("kept", "in the table")]))
        assert (head.path, head.metadata["kept"]) == (PATH, "in the table")


def test_whoever_shares_out_the_turn_is_told_what_a_block_costs_and_a_remembered_one_costs_nothing() -> None:
    charged: list[int] = []
    encoder, ours = hpack.Encoder(), HeaderDecoder(Limits(), read_request_headers, OVERSIZED_REQUEST, charged.append)
    for _ in range(3):
        ours.decode(encoder.encode([("a", "x" * 1000)] * 7))
    assert len(charged) == 2
    assert min(charged) > 7_000
