"""Header blocks of HPACK, as requests and as responses."""

from ext_proc.http2.frames import ConnectionFault
from ext_proc.http2.headers import (
    OVERSIZED_REQUEST,
    OVERSIZED_RESPONSE,
    HeaderDecoder,
    read_request_headers,
    read_response_headers,
)
from ext_proc.http2.hpack_literals import literal
from ext_proc.http2.limits import Limits
from tests.fuzz.reader import Reader
from tests.fuzz.target import Target


def run(data: bytes) -> None:
    reader = Reader(data)
    requests = HeaderDecoder(Limits(), read_request_headers, OVERSIZED_REQUEST, lambda _: None)
    responses = HeaderDecoder(Limits(), read_response_headers, OVERSIZED_RESPONSE, lambda _: None)
    blocks = []
    while reader and len(blocks) < 8:
        blocks.append(reader.piece() if reader.flag() else reader.rest())
    for decoder in (requests, responses):
        for block in blocks:
            try:
                decoder.decode(block)
            except ConnectionFault:
                break


REQUEST = b"".join(
    literal(name, value)
    for name, value in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b"te", b"trailers"))
)
TARGET = Target(
    run,
    (b"\0" + REQUEST, b"\0\x88\x5f\x10application/grpc", b"\1\x03\x88\x3f\xe1\0\x40\x01a\x01b\xbe\xbe\xbe"),
    (
        b"\x82",
        b"\x86",
        b"\x84",
        b"\x88",
        b"\x40",
        b"\x3f\xe1\x1f",
        b"\xbe",
        b"\xff",
        b"\x10",
        REQUEST,
        literal(b"a", b"b"),
    ),
    longest=8192,
)
