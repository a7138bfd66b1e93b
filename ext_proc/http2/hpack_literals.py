"""Header fields as HPACK literals that touch no dynamic table (RFC 7541, section 6.2.2).

Literals are longer than indexed fields, but the same on every stream and every connection, and cost next to nothing
to write.
"""

from urllib.parse import quote

from hpack.hpack import encode_integer

# The first block of a connection sets our encoder's table to nothing. Whatever size the peer chooses for it later, it
# is never below what we use, which a strict decoder would want to be told (RFC 7541, section 4.2).
NO_TABLE = b"\x20"


def literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing and without Huffman coding."""
    return b"".join((b"\0", _size(name), name, _size(value), value))


def _size(text: bytes) -> bytes:
    size = len(text)
    return _SHORT[size] if size < 127 else bytes(encode_integer(size, 7))


_SHORT = [bytes([size]) for size in range(127)]


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
