"""gRPC's framing: each message is one flag byte, four bytes of length, and the message.

Source: grpc/doc/PROTOCOL-HTTP2.md and compression.md. `deflate` is zlib's format (RFC 1950), as every gRPC
implementation has it.
"""

import zlib
from collections.abc import Iterator, Sequence

from ext_proc.errors import CallError, Reason
from ext_proc.grpc_framing import PREFIX_SIZE, prefix, read_prefix
from ext_proc.wire.names import quoted

_SLICE = 65_536  # bytes that are decompressed at a time
# Bytes that zlib is fed at a time: it copies what it has not come to yet for every slice that it gives.
_FED = 16_384
_PART = 1 << 20  # bytes of a plain message that are copied at a time
_MOST_RATIO = 1032  # of deflate: plain bytes to packed ones (zlib.net/zlib_tech.html)
_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's wbits


class FirstMessage:
    """The first message of a gRPC body that comes in chunks; what follows it is not looked at.

    `size` is its length as sent, once its head has come. `limit` bounds what a compressed message unpacks to, in bytes;
    whoever keeps the chunks bounds those.
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
    def packed(self) -> bool:
        """Whether it is compressed, as far as its head has come."""
        return self._inflater is not None

    @property
    def plain_size(self) -> int | None:
        """Length of the plain message in bytes, where it is known before the message ends."""
        return None if self._inflater else self.size

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Pieces of the plain message. Raises CallError: TOO_LARGE, UNSUPPORTED (its encoding), INVALID."""
        start = 0
        if self.size is None:
            start = PREFIX_SIZE - len(self._head)
            self._head += chunk[:start]
            if len(self._head) < PREFIX_SIZE:
                return
            self._open(self._head)
        size = self.size or 0
        end = min(len(chunk), start + size - self._got)
        self._got += end - start
        if self._inflater is None:
            # By parts, so that a thread that copies many MiB lets others work in between; as a rule it is one.
            for part in range(start, end, _PART):
                yield chunk[part : min(part + _PART, end)]
            return
        yield from self._inflater.feed(memoryview(chunk)[start:end])
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
        flag, self.size = read_prefix(head)
        if flag > 1:
            raise CallError(Reason.INVALID, f"The gRPC message has an impossible flag byte {flag}.")
        if flag:
            self._inflater = _Inflater(self._encoding, self._limit)


def frame(message: bytes) -> bytes:
    """The message with its head, not compressed."""
    return prefix(len(message)) + message


def unframe(chunks: Sequence[bytes], encoding: str, limit: int) -> bytes:
    """The plain message of a gRPC body that holds exactly one, and comes in these chunks. Raises CallError."""
    first = FirstMessage(encoding, limit)
    # What is joined is bytes, never views: so the interpreter is free for others meanwhile.
    pieces: list[bytes] = []
    for chunk in chunks:
        pieces += first.feed(chunk)
        if first.size is not None and first.size > limit:
            raise _too_large(first.size, limit)
    message = b"".join(pieces)
    first.end()
    if first.size is not None and sum(map(len, chunks)) > PREFIX_SIZE + first.size:
        raise CallError(Reason.INVALID, "The gRPC body holds more than one message.")
    return message


def most_plain(chunks: Sequence[bytes], limit: int) -> int:
    """Bytes that the message of such a body may have at most once it is plain."""
    size = sum(map(len, chunks))
    packed = next((chunk[0] for chunk in chunks if chunk), 0)
    return min(size * _MOST_RATIO, limit) if packed else size


def inflate(data: bytes, encoding: str, limit: int) -> bytes:
    """The plain bytes of data that is packed by gzip or deflate, at most `limit` of them. Raises CallError."""
    inflater = _Inflater(encoding, limit)
    plain = b"".join(list(inflater.feed(memoryview(data))))
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

    def feed(self, chunk: memoryview) -> Iterator[bytes]:
        for start in range(0, len(chunk), _FED):
            yield from self._feed(chunk[start : start + _FED])

    def _feed(self, some: bytes | memoryview) -> Iterator[bytes]:
        while True:
            try:
                piece = self._zlib.decompress(some, _SLICE)
            except zlib.error:
                raise self._broken("is malformed") from None
            if self._zlib.unused_data:
                raise self._broken("has bytes after its end")
            self._left -= len(piece)
            if self._left < 0:
                raise _too_large(self._limit - self._left, self._limit)
            if piece:
                yield piece
            some = self._zlib.unconsumed_tail
            if not some and len(piece) < _SLICE:
                return

    def end(self) -> None:
        if not self._zlib.eof:
            raise self._broken("is cut off")

    def _broken(self, how: str) -> CallError:
        return CallError(Reason.INVALID, f"The {self._encoding} data of the message {how}.")


def _too_large(size: int, limit: int) -> CallError:
    return CallError(Reason.TOO_LARGE, f"The message is larger than the limit ({size} bytes against {limit}).")
