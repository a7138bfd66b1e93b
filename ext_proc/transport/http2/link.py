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
from abc import abstractmethod
from collections.abc import Callable

from ext_proc.transport.http2 import frames
from ext_proc.transport.http2.control import StreamT
from ext_proc.transport.http2.frames import (
    CONTINUATION,
    DATA,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    SETTINGS,
    STREAM_MASK,
    Code,
    ConnectionFault,
    Flag,
    Setting,
    StreamFault,
    goaway,
    rst_stream,
    window_update,
)
from ext_proc.transport.http2.limits import Limits
from ext_proc.transport.http2.traffic import Traffic

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
            self._fail(ConnectionFault(Code.INTERNAL_ERROR, "the server failed"))
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
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is longer than MAX_FRAME_SIZE")
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
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._settled = True

    # Common to several.

    def _greet(self, settings: dict[Setting, int]) -> None:
        """Our settings, and the connection's window."""
        widening = self.limits.connection_window - frames.DEFAULT_WINDOW
        self.writer.write(frames.settings_frame(settings), window_update(0, widening))

    def _reset(self, number: int, code: Code) -> None:
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
            stream.reset(Code.CANCEL)
