"""One gRPC stream of a connection: messages in, messages and a status out."""

import logging
import struct
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from ext_proc.transport.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADERS,
    MAX_WINDOW,
    Code,
    StreamFault,
    frame,
    rst_stream,
    window_update,
)
from ext_proc.transport.http2.heads import Head
from ext_proc.transport.http2.limits import Limits
from ext_proc.transport.http2.messages import INTERNAL, PREFIX, PREFIX_SIZE, Assembly, MessageFault
from ext_proc.transport.http2.replies import HEADERS_BLOCK, TRAILERS_OK, trailers_block
from ext_proc.transport.http2.writer import Writer
from ext_proc.transport.session import Session

logger = logging.getLogger(__name__)

# A DATA frame's header and a message's prefix in one go.
_MESSAGE_HEAD = struct.Struct(">BHBBIBI")
_HEADERS_HEAD = frame(HEADERS, END_HEADERS, 0, HEADERS_BLOCK)[:5]
_TRAILERS_HEAD = frame(HEADERS, END_HEADERS | END_STREAM, 0, TRAILERS_OK)[:5]


class Home(Protocol):
    """What a stream asks of its connection."""

    limits: Limits
    writer: Writer

    def opening(self) -> bytes:
        """What the next header block has to begin with: nothing, but for the first of the connection."""

    def closed(self, stream: "GrpcStream") -> None:
        """The stream has written its last frame."""

    def withhold(self, stream: "GrpcStream") -> None:
        """The stream waits for the transport before it lets the peer send more."""


class GrpcStream:
    """A stream as its session knows it (`ext_proc.transport.session.Stream`), and as the connection drives it.

    It is over after the trailers were written, which `Home.closed` tells, or at a reset. From `finish` or a reset on it
    has no session. `heard` says whether a message has come, `answered` whether one was sent.
    """

    __slots__ = (
        "_assembly",
        "_home",
        "_in_line",
        "_limits",
        "_over",
        "_queue",
        "_queued",
        "_session",
        "_taken",
        "_trailers",
        "_writer",
        "answered",
        "heard",
        "id",
        "metadata",
        "remote_closed",
        "window",
    )

    def __init__(self, home: Home, number: int, head: Head, window: int) -> None:
        self._home = home
        self._writer = home.writer
        self._limits = home.limits
        self._session: Session | None = None
        self._assembly: Assembly | None = None  # only where a message does not come in one frame
        self._queue: deque[memoryview] | None = None  # only where a message does not go out at once
        self._queued = 0
        self._in_line = False
        self._trailers: bytes | None = None
        self.answered = False
        self._over = False
        self._taken = 0
        self.id = number
        self.metadata: Mapping[str, str] = head.metadata
        self.window = window
        self.heard = False
        self.remote_closed = False

    # What the session does.

    def send(self, message: bytes) -> None:
        """See `Stream.send`."""
        if self._over or self._trailers is not None:
            return
        writer = self._writer
        if not self.answered:
            self._open()
        size = len(message) + PREFIX_SIZE
        if (
            size <= self.window
            and size <= writer.window
            and size <= writer.frame
            and size <= writer.room
            and not self._queued
            and not writer.waiting
        ):
            self.window -= size
            writer.window -= size
            writer.room -= size
            writer.write(_MESSAGE_HEAD.pack(size >> 16, size & 0xFFFF, DATA, 0, self.id, 0, len(message)), message)
        else:
            self._enqueue(message)

    def finish(self, code: int = 0, details: str = "") -> None:
        """See `Stream.finish`."""
        if self._over or self._trailers is not None:
            return
        self._session = None
        block = trailers_block(code, details) if code or details else TRAILERS_OK
        if self._queued:
            self._trailers = block
        else:
            self._end(block)

    # What the connection does.

    def join(self, session: Session) -> None:
        """Takes the session, unless the stream was finished while it was made."""
        if not self._over and self._trailers is None:
            self._session = session

    def receive(self, buffer: bytes, start: int, end: int, size: int) -> None:
        """Takes DATA: what lies in the buffer, of a frame of `size` bytes. Raises StreamFault."""
        self._taken += size
        if self._taken >= self._limits.stream_window >> 1:
            self._grant()
        if self._session is None:
            return  # finished, with an answer that still waits for room
        assembly = self._assembly
        try:
            if assembly is None:
                if end - start >= PREFIX_SIZE:
                    flag, length = PREFIX.unpack_from(buffer, start)
                    if not flag and end - start == length + PREFIX_SIZE and length <= self._limits.message:
                        self._deliver(buffer[start + PREFIX_SIZE : end])
                        return
                encoding = self.metadata.get("grpc-encoding", "identity")
                assembly = self._assembly = Assembly(self._limits.message, encoding)
            for message in assembly.feed(buffer[start:end]):
                self._deliver(message)
                if self._session is None:
                    return
            if assembly.between:
                self._assembly = None
        except MessageFault as fault:
            self.withdraw(fault.code, fault.details)

    def half_close(self) -> None:
        """The peer has ended its side, as `remote_closed` says."""
        session = self._session
        if session is None:
            return
        if self._assembly is not None:
            self.withdraw(INTERNAL, "the stream ended within a message")
            return
        try:
            session.half_closed()
        except Exception:
            self.crashed()

    def widen(self, size: int) -> None:
        """The peer takes `size` bytes more (or, by a change of its settings, fewer). Raises StreamFault."""
        self.window += size
        if self.window > MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR)
        if self._queued and self.window > 0:
            self._line_up()

    def advance(self) -> bool:
        """See `Waiting.advance`."""
        writer = self._writer
        if self._queue is None or self._over:
            self._in_line = False
            return False
        size = min(self._queued, self.window, writer.window, writer.frame, writer.room)
        if size > 0:
            self.window -= size
            writer.window -= size
            writer.room -= size
            self._queued -= size
            writer.write(HEADER.pack(size >> 16, size & 0xFFFF, DATA, 0, self.id), *_cut(self._queue, size))
            if self._taken >= self._limits.stream_window >> 1:
                self._grant()
        if not self._queued:
            self._queue = None
            self._in_line = False
            if self._trailers is not None:
                self._end(self._trailers)
            return False
        self._in_line = self.window > 0
        return self._in_line

    def reset(self) -> None:
        """The stream is gone, by the peer's will or by a fault; the connection knows."""
        self._over = True
        self._queue = None
        self._queued = 0
        session = self._session
        self._session = None
        _tell_gone(session)

    def withdraw(self, code: int, details: str) -> None:
        """Ends the stream over the session's head; it learns that nothing can be answered any more."""
        session = self._session
        self.finish(code, details)
        _tell_gone(session)

    def crashed(self) -> None:
        """To be called in the handler of an exception that came out of the session."""
        logger.exception("a session failed; its stream ends with INTERNAL")
        self.withdraw(INTERNAL, "the server failed on this call")

    def regrant(self) -> None:
        """The transport has room again."""
        if not self._over:
            self._grant()

    def _deliver(self, message: bytes) -> None:
        self.heard = True
        try:
            self._session.message(message)  # type: ignore[union-attr]
        except Exception:
            self.crashed()

    def _grant(self) -> None:
        """Lets the peer send more, unless what it sent before still waits for it to take the answer."""
        taken = self._taken
        if taken > self._limits.stream_window:
            raise StreamFault(Code.FLOW_CONTROL_ERROR)
        if self.remote_closed or self._queued > self._limits.stream_queue:
            return
        if self._writer.paused:
            self._home.withhold(self)
            return
        self._taken = 0
        self._writer.write(window_update(self.id, taken))

    def _enqueue(self, message: bytes) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(memoryview(PREFIX.pack(0, len(message))))
        self._queue.append(memoryview(message))
        self._queued += PREFIX_SIZE + len(message)
        if self.window > 0:
            self._line_up()

    def _line_up(self) -> None:
        if not self._in_line:
            self._in_line = True
            self._writer.wait(self)

    def _open(self) -> None:
        self.answered = True
        opening = self._home.opening()
        if opening:
            self._writer.write(frame(HEADERS, END_HEADERS, self.id, opening + HEADERS_BLOCK))
        else:
            self._writer.write(_HEADERS_HEAD + self.id.to_bytes(4, "big") + HEADERS_BLOCK)

    def _end(self, trailers: bytes) -> None:
        """Writes the trailers; on a stream that has sent nothing they are all of the answer."""
        flags = END_HEADERS | END_STREAM
        self._over = True
        if not self.answered:
            block = self._home.opening() + HEADERS_BLOCK + trailers
            self._writer.write(frame(HEADERS, flags, self.id, block))
        elif trailers is TRAILERS_OK:
            self._writer.write(_TRAILERS_HEAD + self.id.to_bytes(4, "big") + trailers)
        else:
            self._writer.write(frame(HEADERS, flags, self.id, trailers))
        if not self.remote_closed:
            self._writer.write(rst_stream(self.id, Code.NO_ERROR))
        self._home.closed(self)


def _tell_gone(session: Session | None) -> None:
    if session is not None:
        try:
            session.gone()
        except Exception:
            logger.exception("a session failed as its stream went away")


def _cut(queue: deque[memoryview], size: int) -> list[memoryview]:
    """The first `size` bytes, taken off the queue."""
    pieces = []
    while size:
        piece = queue[0]
        if len(piece) <= size:
            queue.popleft()
        else:
            queue[0] = piece[size:]
            piece = piece[:size]
        pieces.append(piece)
        size -= len(piece)
    return pieces
