"""Response headers and trailers of gRPC over HTTP/2, as HPACK blocks that touch no dynamic table.

Literals are longer than indexed fields but the same on every stream and every connection, so they are written once.
"""

from urllib.parse import quote

from hpack.hpack import encode_integer

# RFC 7541, appendix A: entry 8 of the static table is `:status: 200`.
_STATUS_200 = b"\x88"
# The first block of a connection sets our encoder's table to nothing. Whatever size the peer chooses for it later, it
# is never below what we use, which a strict decoder would want to be told (RFC 7541, section 4.2).
NO_TABLE = b"\x20"
# What gRPC leaves readable in a grpc-message: visible ASCII and the space, without the percent sign.
_READABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
# The longest grpc-message in characters: percent-encoded, it still fits the smallest frame that a peer may ask for.
_LONGEST_MESSAGE = 1024


def _literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing and without Huffman coding."""
    return b"".join((b"\0", encode_integer(len(name), 7), name, encode_integer(len(value), 7), value))


HEADERS_BLOCK = (
    _STATUS_200 + _literal(b"content-type", b"application/grpc") + _literal(b"grpc-accept-encoding", b"identity")
)


def trailers_block(code: int, details: str) -> bytes:
    """The trailers with a gRPC status."""
    block = _literal(b"grpc-status", b"%d" % code)
    if not details:
        return block
    message = quote(details[:_LONGEST_MESSAGE], safe=_READABLE, errors="replace")
    return block + _literal(b"grpc-message", message.encode("ascii"))


TRAILERS_OK = trailers_block(0, "")


def http_block(status: int) -> bytes:
    """The whole answer to a request that is not gRPC."""
    return _literal(b":status", b"%d" % status)
