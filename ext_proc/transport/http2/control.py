"""Frames that carry no message: settings, windows, pings, resets, and what they leave behind (RFC 9113, section 6)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from ext_proc.transport.http2 import frames
from ext_proc.transport.http2.flow import Flow
from ext_proc.transport.http2.frames import (
    STREAM_MASK,
    Code,
    ConnectionFault,
    Flag,
    Setting,
    StreamFault,
    frame,
    window_update,
    word,
)
from ext_proc.transport.http2.guard import Guard
from ext_proc.transport.http2.limits import Limits
from ext_proc.transport.http2.literals import NO_TABLE
from ext_proc.transport.http2.writer import Writer

StreamT = TypeVar("StreamT", bound=Flow)


class Control(ABC, Generic[StreamT]):
    """The streams of a connection, its windows and its settings. `_last` is the highest stream that was opened."""

    def __init__(self, wake: Callable[[], None], limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.writer = Writer(wake)
        self.ended = False
        self._streams: dict[int, StreamT] = {}
        self._last = 0
        self._guard = Guard(limits)
        self._draining = False
        self._opening = NO_TABLE
        self._peer_window = frames.DEFAULT_WINDOW
        self._taken = 0
        self._withheld: set[Flow] = set()
        self._handlers = {
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
        }

    # What each side does in its own way.

    @abstractmethod
    def _on_goaway(self, number: int, flags: int, payload: bytes) -> None:
        """A GOAWAY frame. Raises ConnectionFault."""

    def _on_reset_of(self, stream: StreamT) -> None:
        """The peer has reset a stream."""

    def _on_idle(self) -> None:
        """The last stream is over."""

    def _on_pong(self, payload: bytes) -> None:
        """The peer has answered a PING."""

    def _on_setting(self, setting: int, value: int) -> None:
        """A setting that only one side obeys."""

    # What streams call.

    def opening(self) -> bytes:
        """See `Home.opening`."""
        opening, self._opening = self._opening, b""
        return opening

    def closed(self, stream: Flow) -> None:
        """See `Home.closed`."""
        if self._streams.pop(stream.id, None) is not None and not stream.remote_closed:
            self._guard.cut_short(stream.id)
        if not self._streams:
            self._on_idle()

    def withhold(self, stream: Flow) -> None:
        """See `Home.withhold`."""
        self._withheld.add(stream)

    # Frames.

    def _on_priority(self, number: int, _flags: int, payload: bytes) -> None:
        """Priorities of this kind are deprecated (section 5.3), and only checked for their form."""
        self._guard.idle_frame()
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a PRIORITY frame names no stream")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR)

    def _on_reset(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an RST_STREAM frame has not four bytes")
        self._check_used(number)
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.reset(word(payload, 0))
            self._on_reset_of(stream)
            if not self._streams:
                self._on_idle()

    def _on_settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a SETTINGS frame names a stream")
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS is not empty")
            return
        self._guard.idle_frame()
        for setting, value in frames.read_settings(payload):
            if setting == Setting.MAX_FRAME_SIZE:
                self.writer.frame = min(value, frames.MAX_FRAME_BYTES)
            elif setting == Setting.INITIAL_WINDOW_SIZE:
                self._rewindow(value)
            else:
                self._on_setting(setting, value)
        self.writer.write(frames.SETTINGS_ACK)

    def _rewindow(self, value: int) -> None:
        """Section 6.9.2: the windows of the open streams change by as much."""
        change, self._peer_window = value - self._peer_window, value
        try:
            for stream in self._streams.values():
                stream.widen(change)
        except StreamFault as fault:
            raise ConnectionFault(fault.code, "INITIAL_WINDOW_SIZE makes a window too large") from None

    def _on_push_promise(self, _number: int, _flags: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "nothing may be pushed here")

    def _on_ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a PING frame names a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PING frame has not eight bytes")
        if flags & Flag.ACK:
            self._on_pong(payload)
        else:
            self._guard.idle_frame()
            self.writer.write(frame(frames.PING, Flag.ACK, 0, payload))

    def _on_window_update(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a WINDOW_UPDATE frame has not four bytes")
        size = word(payload, 0) & STREAM_MASK
        if number:
            self._check_used(number)
            stream = self._streams.get(number)
            if not size:
                raise StreamFault(Code.PROTOCOL_ERROR)
            if stream is not None:
                stream.widen(size)
            return
        if not size:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a WINDOW_UPDATE frame widens by nothing")
        self.writer.window += size
        if self.writer.window > frames.MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")

    # Common to several.

    def _check_goaway(self, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a GOAWAY frame names a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a GOAWAY frame is too short")
        self._guard.idle_frame()

    def _check_used(self, number: int) -> None:
        if not number or number > self._last or not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame names a stream that was never opened")

    def _grant(self) -> None:
        """Lets the peer send more on the connection, unless it does not read what we send."""
        if self._taken > self.limits.connection_window:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window was not respected")
        if self._taken and not self.writer.paused:
            self.writer.write(window_update(0, self._taken))
            self._taken = 0
