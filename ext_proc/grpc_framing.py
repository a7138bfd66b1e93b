"""The prefix of gRPC's messages in a stream of bytes: a compressed flag and the length (PROTOCOL-HTTP2.md of gRPC)."""

import struct
from typing import Final

# The compressed flag (0 or 1) and the length of the message in bytes.
PREFIX: Final = struct.Struct(">BI")
PREFIX_SIZE: Final = PREFIX.size


def prefix(size: int) -> bytes:
    """What goes before a message of `size` bytes that is not compressed."""
    return PREFIX.pack(0, size)


def read_prefix(data: bytes, start: int = 0) -> tuple[int, int]:
    """The compressed flag and the length in bytes, out of the PREFIX_SIZE bytes at `start`.

    Neither is checked: flags other than 0 and 1 have no meaning, and lengths go up to 4 GiB.
    """
    flag, size = PREFIX.unpack_from(data, start)
    return flag, size
