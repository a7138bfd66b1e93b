"""The output of one connection: frames in order, and the streams that wait for room."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from ext_proc.http2.frames import DEFAULT_WINDOW, MIN_FRAME_BYTES
from ext_proc.http2.limits import MiB

# The most of bodies that is written in one go. What is more waits until the transport has shown that it keeps up.
BURST: Final = 1 * MiB


class Waiting(Protocol):
    """A stream with more to send than it could."""

    def advance(self) -> bool:
        """Sends one frame, if the windows allow; whether it wants to send more and its own window lets it."""


class Writer:
    """Collects frames until they are taken, and holds bodies back where a window or the transport is full.

    `window` is the peer's window for the connection, `frame` the largest payload that it takes, `room` what may be
    written of bodies before the next `take`. `wake` is called when there is something to take that nobody expects:
    outside of `busy`, the time in which input is handled.
    """

    __slots__ = ("_wake", "_widened", "busy", "frame", "parts", "paused", "room", "waiting", "window")

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.parts: list[bytes | memoryview] = []
        self.busy = False
        self.paused = False
        self.room = BURST
        self.window = DEFAULT_WINDOW
        self._widened = 0  # the window as it was last widened
        self.frame = MIN_FRAME_BYTES
        self.waiting: deque[Waiting] = deque()

    def write(self, *parts: bytes | memoryview) -> None:
        """Adds frames to what goes out."""
        if not self.parts and not self.busy:
            self._wake()
        self.parts += parts

    def take(self) -> bytes:
        """What is to be written now, in one piece."""
        parts = self.parts
        self.parts = []
        if not self.paused:
            self.room = BURST
        return b"".join(parts)

    def wait(self, stream: Waiting) -> None:
        """Puts a stream in line."""
        if not self.waiting and not self.busy:
            self._wake()
        self.waiting.append(stream)

    def advance(self) -> None:
        """Lets the streams in line send, a frame each in turn, as long as there is room."""
        waiting = self.waiting
        while waiting and self.window > 0 and self.room > 0:
            stream = waiting.popleft()
            if stream.advance():
                waiting.append(stream)

    @property
    def untouched(self) -> bool:
        """Whether nothing was sent since the window was widened."""
        return self.window == self._widened

    def widen(self, size: int) -> int:
        """The peer takes `size` bytes more on the connection; the window."""
        self._widened = self.window = self.window + size
        return self.window

    def pause(self) -> None:
        """The transport is full: no more bodies. Frames of control, which are few and small, still go out."""
        self.paused = True
        self.room = 0

    def resume(self) -> None:
        """The transport has room again."""
        self.paused = False
        self.room = BURST
