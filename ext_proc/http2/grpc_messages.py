"""The messages of a gRPC stream, put together from DATA that ends anywhere (PROTOCOL-HTTP2.md of gRPC)."""

from collections.abc import Iterator

from ext_proc.grpc_framing import PREFIX, PREFIX_SIZE
from ext_proc.grpc_status import GrpcStatus


class MessageFault(Exception):
    """A message cannot be taken; the stream ends with this gRPC status."""

    def __init__(self, code: GrpcStatus, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def check_prefix(flag: int, size: int, limit: int, encoding: str) -> None:
    """Raises MessageFault unless the message is plain and of at most `limit` bytes."""
    if flag == 1 and encoding != "identity":
        raise MessageFault(GrpcStatus.UNIMPLEMENTED, f"messages compressed with {encoding!r} are not understood")
    if flag:
        raise MessageFault(GrpcStatus.INTERNAL, f"the flag {flag} of a message is not understood")
    if size > limit:
        details = f"a message of {size} bytes is over the limit of {limit} bytes"
        raise MessageFault(GrpcStatus.RESOURCE_EXHAUSTED, details)


class MessageAssembler:
    """Puts the messages of one stream together. `limit` bounds a message in bytes; `encoding` is its grpc-encoding."""

    __slots__ = ("_encoding", "_have", "_limit", "_need")

    def __init__(self, limit: int, encoding: str) -> None:
        self._limit = limit
        self._encoding = encoding
        self._have = bytearray()  # one buffer, however small the pieces are
        self._need = PREFIX_SIZE

    @property
    def have(self) -> int:
        """How many bytes of a message that is not whole are here."""
        return len(self._have)

    @property
    def between(self) -> bool:
        """Whether all that came was whole messages."""
        return not self._have

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Gives the messages that the piece completes. Raises MessageFault after those before the one at fault."""
        have, start = self._have, 0
        have += piece
        while len(have) - start >= self._need:
            flag, size = PREFIX.unpack_from(have, start)
            check_prefix(flag, size, self._limit, self._encoding)
            self._need = PREFIX_SIZE + size
            if len(have) - start < self._need:
                break
            with memoryview(have) as view:
                message = bytes(view[start + PREFIX_SIZE : start + self._need])
            yield message
            start += self._need
            self._need = PREFIX_SIZE
        del have[:start]
