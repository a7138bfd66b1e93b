"""Header fields as HPACK literals that touch no dynamic table (RFC 7541, section 6.2.2).

Literals are longer than indexed fields, but the same on every stream and every connection, and cost next to nothing
to write.
"""

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
