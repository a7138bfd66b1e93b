"""Either side of one HTTP/2 connection: bytes in, frames of streams and bytes out (RFC 9113).

    link.receive(data, now)      what the peer sent; streams are called from within
    link.take()                  what is to be sent to the peer now
    link.ended                   whether the transport is to be closed once that is sent

Here bytes become frames; what frames do is in `traffic` (those that carry messages) and `control` (all others).
It reads no clock and knows no event loop. `wake` is called when there is something to take outside of `receive`.
Nothing that a peer sends raises: what breaks the protocol ends its stream with RST_STREAM or the connection with
GOAWAY, under the code that RFC 9113 gives it.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from ext_proc.http2 import frames
from ext_proc.http2.flow_control import FlowControlledStream
from ext_proc.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    PADDED,
    SETTINGS,
    STREAM_MASK,
    ConnectionFault,
    ErrorCode,
    Flag,
    Setting,
    StreamFault,
    frame,
    goaway,
    rst_stream,
    unpadded,
    window_update,
    word,
)
from ext_proc.http2.headers import Blocks
from ext_proc.http2.hpack_literals import NO_TABLE
from ext_proc.http2.limits import Guard, Limits
from ext_proc.http2.writer import Writer

StreamT = TypeVar("StreamT", bound=FlowControlledStream)


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
        self._withheld: set[FlowControlledStream] = set()
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

    def closed(self, stream: FlowControlledStream) -> None:
        """See `Home.closed`."""
        if self._streams.pop(stream.id, None) is not None and not stream.remote_closed:
            self._guard.cut_short(stream.id)
        if not self._streams:
            self._on_idle()

    def withhold(self, stream: FlowControlledStream) -> None:
        """See `Home.withhold`."""
        self._withheld.add(stream)

    # Frames.

    def _on_priority(self, number: int, _flags: int, payload: bytes) -> None:
        """Priorities of this kind are deprecated (section 5.3), and only checked for their form."""
        self._guard.idle_frame()
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a PRIORITY frame names no stream")
        if len(payload) != 5:
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR)

    def _on_reset(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an RST_STREAM frame has not four bytes")
        self._check_used(number)
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.reset(word(payload, 0))
            self._on_reset_of(stream)
            if not self._streams:
                self._on_idle()

    def _on_settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a SETTINGS frame names a stream")
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS is not empty")
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
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "nothing may be pushed here")

    def _on_ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a PING frame names a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a PING frame has not eight bytes")
        if flags & Flag.ACK:
            self._on_pong(payload)
        else:
            self._guard.idle_frame()
            self.writer.write(frame(frames.PING, Flag.ACK, 0, payload))

    def _on_window_update(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE frame has not four bytes")
        size = word(payload, 0) & STREAM_MASK
        if number:
            self._check_used(number)
            stream = self._streams.get(number)
            if not size:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR)
            if stream is not None:
                stream.widen(size)
            return
        if not size:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE frame widens by nothing")
        self.writer.window += size
        if self.writer.window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    # Common to several.

    def _check_goaway(self, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a GOAWAY frame names a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY frame is too short")
        self._guard.idle_frame()

    def _check_used(self, number: int) -> None:
        if not number or number > self._last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame names a stream that was never opened")

    def _grant(self) -> None:
        """Lets the peer send more on the connection, unless it does not read what we send."""
        if self._taken > self.limits.connection_window:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window was not respected")
        if self._taken and not self.writer.paused:
            self.writer.write(window_update(0, self._taken))
            self._taken = 0


class Traffic(Control[StreamT]):
    """What comes on the streams of a connection."""

    def __init__(self, wake: Callable[[], None], limits: Limits | None = None) -> None:
        super().__init__(wake, limits)
        self._blocks = Blocks(self.limits)

    # What each side does in its own way.

    @abstractmethod
    def _on_block(self, number: int, block: bytes, ends: int) -> None:
        """A whole header block. Raises ConnectionFault or StreamFault."""

    # Frames.

    def _on_data(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        self._taken += size
        if self._taken >= self.limits.connection_window >> 1:
            self._grant()
        if flags & PADDED:
            start, end = unpadded(data, start, end)
        if start == end and not flags & END_STREAM:
            self._guard.idle_frame()
        stream = self._streams.get(number)
        if stream is None:
            self._on_data_of_none(number)
            return
        if stream.remote_closed:
            raise StreamFault(ErrorCode.STREAM_CLOSED)
        ends = stream.remote_closed = bool(flags & END_STREAM)
        if size:
            stream.receive(data, start, end, size)
        if ends:
            stream.half_close()

    def _on_data_of_none(self, number: int) -> None:
        self._check_used(number)
        if not self._guard.was_cut_short(number):
            self._guard.idle_frame()
            raise StreamFault(ErrorCode.STREAM_CLOSED)

    def _on_headers(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & PADDED:
            start, end = unpadded(data, start, end)
        if flags & Flag.PRIORITY:
            if end - start < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is too short for its priority")
            start += 5
        if flags & END_HEADERS:
            self._on_block(number, data[start:end], flags & END_STREAM)
        else:
            self._blocks.begin(number, flags & END_STREAM, data[start:end])

    def _on_continuation(self, number: int, flags: int, payload: bytes) -> None:
        block = self._blocks.go_on(flags, payload)
        if block is not None:
            self._on_block(number, block, self._blocks.ends)

    # Common to several.

    def _stream_of_block(self, number: int) -> StreamT | None:
        """The open stream that a header block is for; None if it is one that we have ended."""
        stream = self._streams.get(number)
        if stream is None:
            if not self._guard.was_cut_short(number):
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "headers came on a stream that was closed")
        elif stream.remote_closed:
            raise StreamFault(ErrorCode.STREAM_CLOSED)
        return stream


logger = logging.getLogger(__name__)


class Link(Traffic[StreamT]):
    """What a server's and a client's side have in common."""

    def __init__(self, wake: Callable[[], None], limits: Limits | None = None) -> None:
        super().__init__(wake, limits)
        self._rest = b""
        self._settled = False

    # What each side does in its own way.

    @abstractmethod
    def shut_down(self) -> None:
        """No new streams; those that are open go on, and `ended` follows the last of them."""

    @abstractmethod
    def end(self) -> None:
        """Ends the connection now, and tells every stream."""

    def _on_preface(self, data: bytes) -> int:
        """Where in the first bytes of the connection the frames begin; -1: they are not there yet."""
        return 0

    # What the shell calls.

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def unsent(self) -> bool:
        """Whether another `take` at once would give more."""
        writer = self.writer
        return bool(writer.parts) or (bool(writer.waiting) and writer.window > 0 and writer.room > 0)

    def receive(self, data: bytes, now: float) -> None:
        """Takes what the peer sent; `now` is in seconds, monotonic."""
        if self.ended:
            return
        self._guard.now = now
        self.writer.busy = True
        try:
            data = self._rest + data if self._rest else data
            start = 0 if self._settled else self._on_preface(data)
            if start >= 0:
                start = self._on_frames(data, start)
            self._rest = data[max(0, start) :]
        except ConnectionFault as fault:
            self._fail(fault)
        except Exception:
            logger.exception("a connection failed")
            self._fail(ConnectionFault(ErrorCode.INTERNAL_ERROR, "the server failed"))
        finally:
            self.writer.busy = False

    def take(self) -> bytes:
        """What is to be sent now."""
        writer = self.writer
        if writer.waiting:
            writer.busy = True
            writer.advance()
            writer.busy = False
        return writer.take()

    def pause(self) -> None:
        """The transport is full. Bodies wait, and the peer is not let send more of them."""
        self.writer.pause()

    def resume(self) -> None:
        """The transport has room again; `take` gives what waited."""
        self.writer.resume()
        self._grant()
        withheld, self._withheld = self._withheld, set()
        for stream in withheld:
            stream.regrant()

    def lost(self) -> None:
        """The transport is gone, and with it every stream."""
        self.ended = True
        self._drop_streams()

    # Frames.

    def _on_frames(self, data: bytes, start: int) -> int:
        """Handles the whole frames in `data`; returns where the rest begins."""
        unpack = HEADER.unpack_from
        size, largest, blocks = len(data), self.limits.frame, self._blocks
        while size - start >= HEADER_SIZE:
            high, low, kind, flags, number = unpack(data, start)
            number &= STREAM_MASK
            length = high << 16 | low
            if length > largest:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than MAX_FRAME_SIZE")
            first = start + HEADER_SIZE
            end = first + length
            if end > size:
                break
            if not self._settled:
                self._check_first(kind, flags)
            if blocks.pieces:
                blocks.check(number, kind)
            try:
                if kind == DATA:
                    self._on_data(number, flags, data, first, end)
                elif kind == HEADERS:
                    self._on_headers(number, flags, data, first, end)
                elif kind == CONTINUATION:
                    self._on_continuation(number, flags, data[first:end])
                elif kind in self._handlers:
                    self._handlers[kind](number, flags, data[first:end])
                else:
                    self._guard.idle_frame()
            except StreamFault as fault:
                self._reset(number, fault.code)
            start = end
        return start

    def _check_first(self, kind: int, flags: int) -> None:
        if kind != SETTINGS or flags & Flag.ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._settled = True

    # Common to several.

    def _greet(self, settings: dict[Setting, int]) -> None:
        """Our settings, and the connection's window."""
        widening = self.limits.connection_window - frames.DEFAULT_WINDOW
        self.writer.write(frames.settings_frame(settings), window_update(0, widening))

    def _reset(self, number: int, code: ErrorCode) -> None:
        """Ends one stream for a fault of the peer."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.reset(code)
        self._guard.idle_frame()
        self._guard.cut_short(number)
        self.writer.write(rst_stream(number, code))

    def _fail(self, fault: ConnectionFault) -> None:
        logger.warning("connection refused", extra={"cause": fault.message, "code": fault.code.name})
        self.ended = True
        self._drop_streams()
        self.writer.write(goaway(self._last, fault.code, fault.message))

    def _drop_streams(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.reset(ErrorCode.CANCEL)
