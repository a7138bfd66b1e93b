"""gRPC's framing: each message is one flag byte, four bytes of length, and the message.

Source: grpc/doc/PROTOCOL-HTTP2.md and compression.md. `deflate` is zlib's format (RFC 1950), as every gRPC
implementation has it.
"""

import zlib
from collections.abc import Iterator

from ext_proc.errors import CallError, Reason
from ext_proc.grpc_framing import PREFIX_SIZE, prefix, read_prefix
from ext_proc.wire.names import quoted

_SLICE = 65_536  # bytes that are decompressed at a time
_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's wbits


class FirstMessage:
    """The first message of a gRPC body that comes in chunks; what follows it is not looked at.

    `size` is its length as sent, once its head has come. `limit` bounds the message, compressed or not, in bytes.
    """

    __slots__ = ("_encoding", "_got", "_head", "_inflater", "_limit", "_out", "size")

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._head = b""
        self._inflater: _Inflater | None = None
        self._got = 0
        self.size: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the whole message has come."""
        return self.size is not None and self._got == self.size

    @property
    def plain_size(self) -> int | None:
        """Length of the plain message in bytes, where it is known before the message ends."""
        return None if self._inflater else self.size

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Pieces of the plain message. Raises CallError: TOO_LARGE, UNSUPPORTED (its encoding), INVALID."""
        if self.size is None:
            head = self._head + chunk[: PREFIX_SIZE - len(self._head)]
            chunk = chunk[len(head) - len(self._head) :]
            self._head = head
            if len(head) < PREFIX_SIZE:
                return
            self._open(head)
        size = self.size or 0
        if len(chunk) > size - self._got:
            chunk = chunk[: size - self._got]
        self._got += len(chunk)
        if self._inflater is None:
            if chunk:
                yield chunk
            return
        yield from self._inflater.feed(chunk)
        if self._got == size:
            self._inflater.end()

    def end(self) -> None:
        """The body is over. Raises CallError(INVALID) if it is over before the message is."""
        if self.size is None:
            what = "the head of its message" if self._head else "a message"
            raise CallError(Reason.INVALID, f"The gRPC body ends before {what}.")
        if self._got < self.size:
            raise CallError(
                Reason.INVALID, f"The gRPC body ends after {self._got} of the {self.size} bytes of its message."
            )

    def _open(self, head: bytes) -> None:
        compressed, self.size = read_head(head, self._limit)
        if compressed:
            self._inflater = _Inflater(self._encoding, self._limit)


def read_head(head: bytes, limit: int) -> tuple[bool, int]:
    """Of the five bytes before a message: whether it is compressed, and its length in bytes."""
    flag, size = read_prefix(head)
    if flag > 1:
        raise CallError(Reason.INVALID, f"The gRPC message has an impossible flag byte {flag}.")
    if size > limit:
        raise _too_large(size, limit)
    return flag == 1, size


def frame(message: bytes) -> bytes:
    """The message with its head, not compressed."""
    return prefix(len(message)) + message


def unframe(body: bytes, encoding: str, limit: int) -> bytes:
    """The plain message of a gRPC body that holds exactly one. Raises CallError."""
    first = FirstMessage(encoding, limit)
    message = b"".join(first.feed(body))
    first.end()
    if first.size is not None and len(body) > PREFIX_SIZE + first.size:
        raise CallError(Reason.INVALID, "The gRPC body holds more than one message.")
    return message


def inflate(data: bytes, encoding: str, limit: int) -> bytes:
    """The plain bytes of data that is packed by gzip or deflate, at most `limit` of them. Raises CallError."""
    inflater = _Inflater(encoding, limit)
    plain = b"".join(inflater.feed(data))
    inflater.end()
    return plain


class _Inflater:
    """Decompresses a message piece by piece, at most `limit` bytes of it."""

    __slots__ = ("_encoding", "_left", "_limit", "_zlib")

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding in ("", "identity"):
            raise CallError(Reason.INVALID, "The message is marked as compressed, but its encoding names none.")
        if encoding not in _WINDOWS:
            raise CallError(Reason.UNSUPPORTED, f"The encoding {quoted(encoding)} is not supported.")
        self._encoding = encoding
        self._zlib = zlib.decompressobj(_WINDOWS[encoding])
        self._limit = self._left = limit

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            try:
                piece = self._zlib.decompress(chunk, _SLICE)
            except zlib.error:
                raise self._broken("is malformed") from None
            if self._zlib.unused_data:
                raise self._broken("has bytes after its end")
            self._left -= len(piece)
            if self._left < 0:
                raise _too_large(self._limit - self._left, self._limit)
            if piece:
                yield piece
            chunk = self._zlib.unconsumed_tail
            if not chunk and len(piece) < _SLICE:
                return

    def end(self) -> None:
        if not self._zlib.eof:
            raise self._broken("is cut off")

    def _broken(self, how: str) -> CallError:
        return CallError(Reason.INVALID, f"The {self._encoding} data of the message {how}.")


def _too_large(size: int, limit: int) -> CallError:
    return CallError(Reason.TOO_LARGE, f"The message is larger than the limit ({size} bytes against {limit}).")
