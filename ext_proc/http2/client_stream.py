"""One request of ours and its reply, on a stream of a connection."""

from collections.abc import Callable
from dataclasses import dataclass

from ext_proc.http2.flow_control import FlowControlledStream, StreamOwner
from ext_proc.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    ErrorCode,
    StreamFault,
    frame,
    rst_stream,
)
from ext_proc.http2.headers import Headers, ReplyHead


@dataclass(frozen=True, slots=True)
class Reply:
    """All of a reply: its final status and headers, its body, its trailers."""

    status: int
    headers: Headers
    body: bytes
    trailers: Headers


@dataclass(frozen=True, slots=True)
class Broken:
    """Why there is no whole reply. `unprocessed`: the peer says that it did nothing with the request."""

    cause: str
    unprocessed: bool = False


Ended = Callable[[Reply | Broken], None]
"""Told once how an exchange ended, unless it was given up; called from within the connection, it must not raise."""


class ClientStream(FlowControlledStream):
    """The stream of one request. `limit` bounds the reply's body, in bytes."""

    __slots__ = ("_chunks", "_ended", "_head", "_limit", "_room", "_trailers")

    def __init__(
        self, home: StreamOwner[FlowControlledStream], number: int, window: int, limit: int, ended: Ended
    ) -> None:
        super().__init__(home, number, window)
        self._ended = ended
        self._head: ReplyHead | None = None
        self._trailers: Headers = ()
        self._chunks: list[bytes] = []
        self._limit = self._room = limit

    def send(self, block: bytes, body: tuple[bytes, ...]) -> None:
        """The whole request: its header block, and what its body consists of."""
        pieces = [piece for piece in body if piece]
        writer = self._writer
        opening = self._home.opening()
        block = opening + block if opening else block
        for start in range(0, len(block), writer.frame):
            kind = HEADERS if start == 0 else CONTINUATION
            last = start + writer.frame >= len(block)
            flags = (END_HEADERS if last else 0) | (END_STREAM if kind == HEADERS and not pieces else 0)
            writer.write(frame(kind, flags, self.id, block[start : start + writer.frame]))
        if not pieces:
            return
        size = sum(map(len, pieces))
        if size <= min(self.window, writer.window, writer.frame, writer.room) and not writer.waiting:
            self.window -= size
            writer.window -= size
            writer.room -= size
            writer.write(HEADER.pack(size >> 16, size & 0xFFFF, DATA, END_STREAM, self.id), *pieces)
        else:
            self._last_flags = END_STREAM
            self._enqueue(*pieces)

    def give_up(self) -> None:
        """Nobody wants the reply any more."""
        if not self._over:
            self._close(ErrorCode.CANCEL)

    def head(self, head: ReplyHead, ends: int) -> None:
        """A header block has come. Raises StreamFault."""
        if head.malformed:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        if self._head is None:
            if 100 <= head.status < 200 and not ends:
                return  # says only that there is more to come
            if head.status < 200:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR)
            self._head = head
        elif head.status or not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        else:
            self._trailers = head.headers
        if ends:
            self.remote_closed = True
            self.half_close()

    def receive(self, buffer: bytes, start: int, end: int, size: int) -> None:
        """See `FlowControlledStream.receive`."""
        if self._head is None:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        self._took(size)
        self._room -= end - start
        if self._room < 0:
            self._close(ErrorCode.CANCEL)
            self._ended(Broken(f"the answer is over the limit of {self._limit} bytes"))
            return
        self._chunks.append(buffer[start:end])

    def half_close(self) -> None:
        """See `FlowControlledStream.half_close`."""
        head = self._head
        if self._over:
            return
        if head is None:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        self._close(ErrorCode.NO_ERROR)
        self._ended(Reply(head.status, head.headers, b"".join(self._chunks), self._trailers))

    def reset(self, code: int) -> None:
        """See `FlowControlledStream.reset`."""
        if self._over:
            return
        self._discard()
        name = ErrorCode(code).name if code in _CODES else f"code {code}"
        self._ended(Broken(f"the stream was reset: {name}", unprocessed=code == ErrorCode.REFUSED_STREAM))

    def refused(self) -> None:
        """The connection goes away, and the peer says that it has not looked at this one."""
        self._discard()
        self._ended(Broken("the connection is going away", unprocessed=True))

    def _drained(self) -> None:
        """The request is out; its end went with the last frame."""

    def _close(self, code: ErrorCode) -> None:
        """It is over on both sides; the peer is told where it would go on, or wait for more of the request."""
        unsent = self._queued
        self._discard()
        if unsent or not self.remote_closed:
            self._writer.write(rst_stream(self.id, code))
        self._home.closed(self)


_CODES = frozenset(ErrorCode)
