"""The header blocks that are written: HPACK literals that touch no dynamic table (RFC 7541, section 6.2.2).

Literals are longer than indexed fields, but the same on every stream and every connection, and cost next to nothing
to write.
"""

from typing import Final

from hpack.hpack import encode_integer

from ext_proc.grpc_status import GrpcStatus, encode_message

# The first block of a connection sets our encoder's table to nothing. Whatever size the peer chooses for it later, it
# is never below what we use, which a strict decoder would want to be told (RFC 7541, section 4.2).
NO_TABLE: Final = b"\x20"
# RFC 7541, appendix A: entry 8 of the static table is `:status: 200`.
_STATUS_200: Final = b"\x88"
# The longest grpc-message in characters: percent-encoded, it still fits the smallest frame that a peer may ask for.
_LONGEST_MESSAGE: Final = 1024
# Lengths that HPACK writes as one byte, the Huffman bit being 0.
_SHORT: Final = [bytes([size]) for size in range(127)]


def literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing and without Huffman coding; the name in lower case."""
    return b"".join((b"\0", _length(name), name, _length(value), value))


def _length(text: bytes) -> bytes:
    size = len(text)
    return _SHORT[size] if size < 127 else bytes(encode_integer(size, 7))


def grpc_trailers(code: int, details: str) -> bytes:
    """The trailers of a gRPC response; of `details`, what fits."""
    block = literal(b"grpc-status", b"%d" % code)
    if not details:
        return block
    return block + literal(b"grpc-message", encode_message(details[:_LONGEST_MESSAGE]))


GRPC_HEADERS: Final = (
    _STATUS_200 + literal(b"content-type", b"application/grpc") + literal(b"grpc-accept-encoding", b"identity")
)
GRPC_TRAILERS_OK: Final = grpc_trailers(GrpcStatus.OK, "")


def http_status(status: int) -> bytes:
    """The headers of a response that is nothing but an HTTP status."""
    return literal(b":status", b"%d" % status)
