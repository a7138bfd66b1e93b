"""Response headers and trailers of gRPC over HTTP/2, as HPACK blocks."""

from urllib.parse import quote

from ext_proc.transport.http2.literals import literal

# RFC 7541, appendix A: entry 8 of the static table is `:status: 200`.
_STATUS_200 = b"\x88"
# What gRPC leaves readable in a grpc-message: visible ASCII and the space, without the percent sign.
READABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
# The longest grpc-message in characters: percent-encoded, it still fits the smallest frame that a peer may ask for.
_LONGEST_MESSAGE = 1024


HEADERS_BLOCK = (
    _STATUS_200 + literal(b"content-type", b"application/grpc") + literal(b"grpc-accept-encoding", b"identity")
)


def trailers_block(code: int, details: str) -> bytes:
    """The trailers with a gRPC status."""
    block = literal(b"grpc-status", b"%d" % code)
    if not details:
        return block
    message = quote(details[:_LONGEST_MESSAGE], safe=READABLE, errors="replace")
    return block + literal(b"grpc-message", message.encode("ascii"))


TRAILERS_OK = trailers_block(0, "")


def http_block(status: int) -> bytes:
    """The whole answer to a request that is not gRPC."""
    return literal(b":status", b"%d" % status)
