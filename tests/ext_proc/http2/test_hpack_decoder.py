"""Our reading half of HPACK against that of the `hpack` package, and what it does with blocks that are too much."""

from typing import Any

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2.frames import ConnectionFault, ErrorCode
from ext_proc.http2.hpack_decoder import HpackDecoder
from ext_proc.http2.limits import Limits

LIMITS = Limits(headers=1000, fields=8, headers_read=4000)
NAMES = st.sampled_from([b"a", b"content-type", b":path", b"x-long-name-of-our-own"])
VALUES = st.one_of(st.binary(max_size=40), st.sampled_from([b"x" * 200, b"/", b"\0" * 130, b"5" * 700]))
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=12)


def sizes(fields: Any) -> int:
    return sum(len(name) + len(value) + 32 for name, value in fields)


@given(st.lists(st.tuples(FIELDS, st.sampled_from([None, 0, 64, 4096]), st.booleans()), max_size=10))
def test_blocks_say_what_they_say_to_another_decoder_and_lists_that_are_too_long_leave_the_table_in_step(
    steps: Any,
) -> None:
    encoder, other, ours = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20), HpackDecoder(LIMITS)
    for fields, size, huffman in steps:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=huffman)
        expected = [(name, value) for name, value in other.decode(block, raw=True)]
        fits = len(expected) <= LIMITS.fields and sizes(expected) <= LIMITS.headers
        try:
            found = ours.decode(block)
        except ConnectionFault:
            assert sizes(expected) > 2 * LIMITS.headers
            return
        assert found == (expected if fits else None)
        assert ours.table.dynamic_entries == other.header_table.dynamic_entries


@given(st.binary(max_size=60))
def test_bytes_that_are_no_block_for_the_other_are_none_for_us(block: bytes) -> None:
    try:
        expected = [(name, value) for name, value in hpack.Decoder().decode(block, raw=True)]
    except (hpack.HPACKError, IndexError):
        with pytest.raises(ConnectionFault) as caught:
            HpackDecoder(Limits()).decode(block)
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR
    else:
        assert HpackDecoder(Limits()).decode(block) == expected


def literal(name: bytes, value: bytes, first: bytes) -> bytes:
    return b"".join(
        (first, bytes([len(name)]), name, bytes([0x7F, len(value) - 127 & 0x7F | 0x80, len(value) - 127 >> 7]), value)
    )


PLAIN, INDEXED = literal(b"n", b"v" * 500, b"\0"), literal(b"n", b"v" * 500, b"\x40")


def test_what_does_not_touch_the_table_is_passed_over_up_to_a_bound() -> None:
    assert HpackDecoder(LIMITS).decode(PLAIN) == [(b"n", b"v" * 500)]
    assert HpackDecoder(LIMITS).decode(PLAIN * 6) is None
    assert HpackDecoder(LIMITS).decode(PLAIN * 2 + b"\0\1n\x83\xff\xff\xff") is None, (
        "not even its Huffman code is read"
    )
    with pytest.raises(ConnectionFault, match="far over the limit") as caught:
        HpackDecoder(LIMITS).decode(PLAIN * 9)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_what_touches_the_table_is_read_up_to_twice_the_limit() -> None:
    assert HpackDecoder(LIMITS).decode(INDEXED * 3) is None
    with pytest.raises(ConnectionFault, match="far over the limit"):
        HpackDecoder(LIMITS).decode(INDEXED * 4)
    with pytest.raises(ConnectionFault, match="far over the limit"):
        HpackDecoder(LIMITS).decode(b"\x82" * 60)


def test_a_list_of_many_fields_is_over_the_limit_however_small_they_are() -> None:
    assert HpackDecoder(LIMITS).decode(b"\x82" * 8) == [(b":method", b"GET")] * 8
    assert HpackDecoder(LIMITS).decode(b"\x82" * 9) is None
