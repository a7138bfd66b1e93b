"""The flow control of one stream (RFC 9113, section 5.2): what waits to go out, what came in and is not granted again.

A DATA frame that goes out has to fit in four bounds at once: the peer's window for the stream (`window`), its window
for the connection, the largest frame that it takes, and what may be written before the transport shows that it keeps
up (these three are the `Writer`'s). `_fits` and `_spend` are the one place where they are compared and used up.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Protocol, TypeVar

from ext_proc.http2.frames import DATA, HEADER, MAX_WINDOW, ErrorCode, StreamFault, window_update
from ext_proc.http2.holdings import Holdings
from ext_proc.http2.limits import FloodLimiter, Limits
from ext_proc.http2.writer import Writer

S_contra = TypeVar("S_contra", contravariant=True)

# Bytes of a message that waits in one piece.
_SHORT: Final = 4096


class StreamOwner(Protocol[S_contra]):
    """What a stream asks of its connection, which is an `H2Connection`."""

    limits: Limits
    writer: Writer
    floods: FloodLimiter
    holdings: Holdings

    def table_size_update(self) -> bytes:
        """What the next header block has to begin with: nothing, but for the first of the connection."""

    def closed(self, stream: S_contra) -> None:
        """The stream has written its last frame."""

    def may_grant(self, stream: S_contra) -> bool:
        """Whether the stream may let the peer send more. If not, it is asked to `regrant` once it may."""


class FlowControlledStream(ABC):
    """A stream as far as windows go: `window` is how many bytes the peer takes of it now.

    `receive`, `half_close`, `reset`, `widen`, `advance` and `regrant` are called by the connection, what
    begins with an underscore by the kind of stream. `_last_flags` goes on the frame that empties the queue. `held` is
    how many bytes wait here: of what came in, and (where it `_owns_queue`, and does not send what others hold anyway)
    of what is to go out.
    """

    _owns_queue: ClassVar[bool]

    __slots__ = (
        "_in_line",
        "_last_flags",
        "_limits",
        "_over",
        "_owner",
        "_queue",
        "_queued",
        "_taken",
        "_writer",
        "held",
        "id",
        "remote_closed",
        "window",
    )

    def __init__(self, owner: StreamOwner["FlowControlledStream"], number: int, window: int) -> None:
        self._owner = owner
        self._writer = owner.writer
        self._limits = owner.limits
        self._queue: list[bytes | memoryview] | None = None  # only where something does not go out at once
        self._queued = 0
        self._in_line = False
        self._last_flags = 0
        self._over = False
        self._taken = 0
        self.held = 0
        self.id = number
        self.window = window
        self.remote_closed = False

    @abstractmethod
    def receive(self, buffer: bytes, start: int, end: int, size: int) -> None:
        """Takes DATA: what lies in the buffer, of a frame of `size` bytes. Raises StreamFault."""

    @abstractmethod
    def half_close(self) -> None:
        """The peer has ended its side, as `remote_closed` says. Raises StreamFault."""

    @abstractmethod
    def reset(self, code: int) -> None:
        """The stream is gone, by the peer's will or by a fault; the connection knows."""

    @abstractmethod
    def _drained(self) -> None:
        """All that was queued is written."""

    def widen(self, size: int) -> None:
        """The peer takes `size` bytes more (or, by a change of its settings, fewer). Raises StreamFault."""
        self.window += size
        if self.window > MAX_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR)
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
            self._spend(size)
            self._queued -= size
            if self._owns_queue:
                self._hold(-size)
            flags = 0 if self._queued else self._last_flags
            writer.write(HEADER.pack(size >> 16, size & 0xFFFF, DATA, flags, self.id), *_cut(self._queue, size))
            if self._taken >= self._limits.stream_window >> 1:
                self._grant()
        if not self._queued:
            self._queue = None
            self._in_line = False
            self._drained()
            return False
        self._in_line = self.window > 0
        return self._in_line

    def regrant(self) -> None:
        """The transport has room again: grants what was withheld."""
        if not self._over:
            self._grant()

    def _fits(self, size: int) -> bool:
        """Whether a DATA frame of `size` bytes may go out now: it keeps every bound, and nothing waits before it."""
        writer = self._writer
        return (
            size <= self.window
            and size <= writer.window
            and size <= writer.frame
            and size <= writer.room
            and not self._queued
            and not writer.waiting
        )

    def _spend(self, size: int) -> None:
        """Takes the `size` bytes of a DATA frame off every bound."""
        writer = self._writer
        self.window -= size
        writer.window -= size
        writer.room -= size

    def _took(self, size: int) -> None:
        """Counts what came in, and grants as much again once it is half of the window. Raises StreamFault."""
        self._taken += size
        if self._taken >= self._limits.stream_window >> 1:
            self._grant()

    def _grant(self) -> None:
        """Lets the peer send more, unless what it sent before still waits for it to take the answer.

        Raises StreamFault if it has sent more than it was let.
        """
        taken = self._taken
        if taken > self._limits.stream_window:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR)
        if self.remote_closed or self._queued > self._limits.stream_queue:
            return
        if not self._owner.may_grant(self):
            return
        self._taken = 0
        self._writer.write(window_update(self.id, taken))

    def _enqueue(self, *pieces: bytes | memoryview) -> None:
        """Takes what cannot go out at once; it goes as the windows open."""
        size = sum(map(len, pieces))
        # Very many streams may wait, each with a short reply: that is kept in as little as it can be.
        queued = pieces if size > _SHORT else (b"".join(pieces),)
        if self._queue is None:
            self._queue = [*queued]
        else:
            self._queue += queued
        self._queued += size
        if self._owns_queue:
            self._hold(size)
        if self.window > 0:
            self._line_up()

    def _hold(self, change: int) -> None:
        """Counts what is held. Where that is more than the connection may hold, the stream ends soon."""
        self.held += change
        self._owner.holdings.change(self, change)

    def _discard(self) -> None:
        """What is held goes nowhere any more."""
        self._over = True
        self._queue = None
        self._queued = 0
        if self.held:
            self._hold(-self.held)

    def _line_up(self) -> None:
        """Waits for its turn to `advance`."""
        if not self._in_line:
            self._in_line = True
            self._writer.wait(self)


def _cut(queue: list[bytes | memoryview], size: int) -> list[bytes | memoryview]:
    """The first `size` bytes, taken off the queue."""
    pieces: list[bytes | memoryview] = []
    for taken, piece in enumerate(queue):
        if len(piece) > size:
            del queue[:taken]
            if size:
                view = memoryview(piece)
                queue[0] = view[size:]
                pieces.append(view[:size])
            return pieces
        pieces.append(piece)
        size -= len(piece)
    queue.clear()
    return pieces
