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
