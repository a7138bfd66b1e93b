"""One stream of a client: a request out, its whole response in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
from ext_proc.http2.headers import Headers, ResponseHeaders

_CODES: Final = frozenset(ErrorCode)


@dataclass(slots=True, init=False)
class HttpResponse:
    """A whole response: its final status and headers, its body, its trailers."""

    status: Final[int]
    headers: Final[Headers]
    body: Final[bytes]
    trailers: Final[Headers]

    def __init__(self, status: int, headers: Headers, body: bytes, trailers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.trailers = trailers


@dataclass(frozen=True, slots=True)
class Broken:
    """Why there is no whole response. `unprocessed`: the peer says that it did nothing with the request."""

    cause: str
    unprocessed: bool = False


Ended = Callable[[HttpResponse | Broken], None]
"""Told once how a stream ended, unless it was given up; called from within the connection, it must not raise."""


class ClientStream(FlowControlledStream):
    """The stream of one request. `limit` bounds the body of the response, in bytes."""

    _owns_queue = False

    __slots__ = ("_body", "_ended", "_headers", "_limit", "_trailers")

    def __init__(
        self, owner: StreamOwner[FlowControlledStream], number: int, window: int, limit: int, ended: Ended
    ) -> None:
        super().__init__(owner, number, window)
        self._ended = ended
        self._headers: ResponseHeaders | None = None
        self._trailers: Headers = ()
        self._body = bytearray()  # one buffer, however small the pieces are
        self._limit = limit

    def send(self, block: bytes, body: tuple[bytes | memoryview, ...]) -> None:
        """The whole request: its header block, and what its body consists of."""
        pieces = [piece for piece in body if piece]
        writer = self._writer
        block = self._owner.table_size_update() + block
        for start in range(0, len(block), writer.frame):
            kind = HEADERS if start == 0 else CONTINUATION
            last = start + writer.frame >= len(block)
            flags = (END_HEADERS if last else 0) | (END_STREAM if kind == HEADERS and not pieces else 0)
            writer.write(frame(kind, flags, self.id, block[start : start + writer.frame]))
        if not pieces:
            return
        size = sum(map(len, pieces))
        if self._fits(size):
            self._spend(size)
            writer.write(HEADER.pack(size >> 16, size & 0xFFFF, DATA, END_STREAM, self.id), *pieces)
        else:
            self._last_flags = END_STREAM
            self._enqueue(*pieces)

    def give_up(self) -> None:
        """Nobody wants the response any more: resets the stream."""
        if not self._over:
            self._close(ErrorCode.CANCEL)

    def receive_headers(self, headers: ResponseHeaders, ends: int) -> None:
        """Takes a header block: interim or final headers, or trailers. Raises StreamFault."""
        if headers.oversized:
            self._close(ErrorCode.CANCEL)
            self._ended(Broken(f"the headers of the answer are over the limit of {self._limits.headers} bytes"))
            return
        if headers.malformed:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        if self._headers is None:
            if 100 <= headers.status < 200 and not ends:
                return  # says only that there is more to come
            if headers.status < 200:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR)
            self._headers = headers
        elif headers.status or not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        else:
            self._trailers = headers.headers
        if ends:
            self.remote_closed = True
            self.half_close()

    def receive(self, buffer: bytes, start: int, end: int, size: int) -> None:
        """See `FlowControlledStream.receive`."""
        if self._headers is None:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        self._took(size)
        if len(self._body) + end - start > self._limit:
            self._close(ErrorCode.CANCEL)
            self._ended(Broken(f"the answer is over the limit of {self._limit} bytes"))
            return
        self._body += buffer[start:end]
        self._hold(end - start)

    def half_close(self) -> None:
        """See `FlowControlledStream.half_close`."""
        headers = self._headers
        if self._over:
            return
        if headers is None:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        self._close(ErrorCode.NO_ERROR)
        self._ended(HttpResponse(headers.status, headers.headers, bytes(self._body), self._trailers))

    def reset(self, code: int) -> None:
        """See `FlowControlledStream.reset`."""
        if self._over:
            return
        self._discard()
        name = ErrorCode(code).name if code in _CODES else f"code {code}"
        self._ended(Broken(f"the stream was reset: {name}", unprocessed=code == ErrorCode.REFUSED_STREAM))

    def refused(self) -> None:
        """The connection goes away, and the peer says that it has not looked at this stream."""
        self._discard()
        self._ended(Broken("the connection is going away", unprocessed=True))

    def _drained(self) -> None:
        """The request is out; its end went with the last frame."""

    def _close(self, code: ErrorCode) -> None:
        """Ends the stream on both sides; the peer is told where it would go on, or wait for more of the request."""
        unsent = self._queued
        self._discard()
        if unsent or not self.remote_closed:
            self._writer.write(rst_stream(self.id, code))
        self._owner.closed(self)
