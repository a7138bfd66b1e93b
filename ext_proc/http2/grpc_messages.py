"""gRPC's messages in a stream of bytes: a flag, four bytes of length, the message (PROTOCOL-HTTP2.md of gRPC)."""

import struct
from collections.abc import Iterator

PREFIX = struct.Struct(">BI")
PREFIX_SIZE = PREFIX.size
INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 13, 8, 12


class MessageFault(Exception):
    """A message cannot be taken; the stream ends with this gRPC status."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def check_prefix(flag: int, size: int, limit: int, encoding: str) -> None:
    """Raises MessageFault unless the message is plain and of at most `limit` bytes."""
    if flag == 1 and encoding != "identity":
        raise MessageFault(UNIMPLEMENTED, f"messages compressed with {encoding!r} are not understood")
    if flag:
        raise MessageFault(INTERNAL, f"the flag {flag} of a message is not understood")
    if size > limit:
        raise MessageFault(RESOURCE_EXHAUSTED, f"a message of {size} bytes is over the limit of {limit} bytes")


class Assembly:
    """Puts messages together from pieces that end anywhere."""

    __slots__ = ("_encoding", "_have", "_limit", "_need", "_pieces")

    def __init__(self, limit: int, encoding: str) -> None:
        self._limit = limit
        self._encoding = encoding
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = PREFIX_SIZE

    @property
    def between(self) -> bool:
        """Whether all that came was whole messages."""
        return self._have == 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Gives the messages that the piece completes. Raises MessageFault after those before the one at fault."""
        self._pieces.append(piece)
        self._have += len(piece)
        # Joined only when there is enough: however small the pieces, every byte is copied a bounded number of times.
        while self._have >= self._need:
            data = b"".join(self._pieces)
            start = 0
            while len(data) - start >= PREFIX_SIZE:
                flag, size = PREFIX.unpack_from(data, start)
                check_prefix(flag, size, self._limit, self._encoding)
                self._need = PREFIX_SIZE + size
                if len(data) - start < self._need:
                    break
                yield data[start + PREFIX_SIZE : start + self._need]
                start += self._need
                self._need = PREFIX_SIZE
            self._pieces = [data[start:]]
            self._have = len(data) - start
