"""A server's side of one HTTP/2 connection, for gRPC: bytes in, calls of sessions and bytes out (RFC 9113).

    connection.receive(data, now)      what the peer sent; sessions are called from within
    connection.take()                  what is to be sent to the peer now
    connection.ended                   whether the transport is to be closed once that is sent

It reads no clock and knows no event loop. `wake` is called when a session has sent something outside of `receive`.
Nothing that a peer sends raises: what breaks the protocol ends its stream with RST_STREAM or the connection with
GOAWAY, under the code that RFC 9113 gives it.
"""

import logging
from collections.abc import Callable, Mapping

from ext_proc.transport.http2 import frames
from ext_proc.transport.http2.blocks import Blocks
from ext_proc.transport.http2.frames import (
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
    Code,
    ConnectionFault,
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
from ext_proc.transport.http2.guard import Guard
from ext_proc.transport.http2.heads import Head, HeadDecoder
from ext_proc.transport.http2.limits import Limits
from ext_proc.transport.http2.messages import UNIMPLEMENTED
from ext_proc.transport.http2.replies import NO_TABLE, http_block
from ext_proc.transport.http2.stream import GrpcStream
from ext_proc.transport.http2.writer import Writer
from ext_proc.transport.session import Open

logger = logging.getLogger(__name__)

UNAVAILABLE = 14
# What a PING of ours carries at a shutdown; its answer shows which streams the peer opened before it knew.
_FAREWELL = b"farewell"


class Connection:
    """One connection. `sessions` gives what answers, by the request's path."""

    def __init__(self, sessions: Mapping[str, Open], wake: Callable[[], None], limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.writer = Writer(wake)
        self.ended = False
        self._sessions = sessions
        self._streams: dict[int, GrpcStream] = {}
        self._last = 0  # the highest stream of the peer
        self._accept_up_to = STREAM_MASK
        self._heads = HeadDecoder(limits.headers)
        self._blocks = Blocks(limits)
        self._guard = Guard(limits)
        self._rest = b""
        self._began = False
        self._settled = False
        self._draining = False
        self._opening = NO_TABLE
        self._peer_window = frames.DEFAULT_WINDOW
        self._taken = 0
        self._withheld: set[GrpcStream] = set()
        self._handlers = {
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
        }

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
            start = 0 if self._began else self._on_preface(data)
            if self._began:
                start = self._on_frames(data, start)
            self._rest = data[start:]
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
        if self._draining and not self._streams and self._accept_up_to != STREAM_MASK:
            self.ended = True
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

    def shut_down(self) -> None:
        """Asks the peer to open no more streams. Those that are open, or were opened meanwhile, go on."""
        if self.ended or self._draining:
            return
        self._draining = True
        if not self._began:
            self.ended = True
            return
        self.writer.write(goaway(STREAM_MASK, Code.NO_ERROR), frame(frames.PING, 0, 0, _FAREWELL))

    def end(self) -> None:
        """Ends the connection now; what is not answered is UNAVAILABLE."""
        if self.ended:
            return
        for stream in list(self._streams.values()):
            stream.withdraw(UNAVAILABLE, "the server is shutting down")
        self.writer.write(goaway(self._last, Code.NO_ERROR))
        self.ended = True

    def lost(self) -> None:
        """The transport is gone, and with it every stream."""
        self.ended = True
        self._drop_streams()

    # What streams call.

    def opening(self) -> bytes:
        """See `Home.opening`."""
        opening, self._opening = self._opening, b""
        return opening

    def closed(self, stream: GrpcStream) -> None:
        """See `Home.closed`."""
        if self._streams.pop(stream.id, None) is not None and not stream.remote_closed:
            self._guard.cut_short(stream.id)

    def withhold(self, stream: GrpcStream) -> None:
        """See `Home.withhold`."""
        self._withheld.add(stream)

    # Frames.

    def _on_preface(self, data: bytes) -> int:
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this port speaks HTTP/2 without an upgrade")
        if len(data) < size:
            return 0
        self._began = True
        limits = self.limits
        settings = {
            Setting.MAX_CONCURRENT_STREAMS: limits.streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_FRAME_SIZE: limits.frame,
            Setting.MAX_HEADER_LIST_SIZE: limits.headers,
        }
        widening = limits.connection_window - frames.DEFAULT_WINDOW
        self.writer.write(frames.settings_frame(settings), window_update(0, widening))
        return size

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
            raise StreamFault(Code.STREAM_CLOSED)
        ends = stream.remote_closed = bool(flags & END_STREAM)
        if size:
            stream.receive(data, start, end, size)
        if ends:
            stream.half_close()

    def _on_data_of_none(self, number: int) -> None:
        self._check_used(number)
        if not self._guard.was_cut_short(number):
            self._guard.idle_frame()
            raise StreamFault(Code.STREAM_CLOSED)

    def _on_headers(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        if not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & PADDED:
            start, end = unpadded(data, start, end)
        if flags & Flag.PRIORITY:
            if end - start < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a HEADERS frame is too short for its priority")
            start += 5
        if flags & END_HEADERS:
            self._on_block(number, data[start:end], flags & END_STREAM)
        else:
            self._blocks.begin(number, flags & END_STREAM, data[start:end])

    def _on_continuation(self, number: int, flags: int, payload: bytes) -> None:
        block = self._blocks.go_on(flags, payload)
        if block is not None:
            self._on_block(number, block, self._blocks.ends)

    def _on_block(self, number: int, block: bytes, ends: int) -> None:
        """A whole header block: of a new stream, or trailers."""
        head = self._heads.decode(block)
        if number > self._last:
            self._open(number, head, ends)
            return
        stream = self._streams.get(number)
        if stream is None:
            if not self._guard.was_cut_short(number):
                raise ConnectionFault(Code.STREAM_CLOSED, "headers came on a stream that was closed")
        elif stream.remote_closed:
            raise StreamFault(Code.STREAM_CLOSED)
        elif not ends:
            raise StreamFault(Code.PROTOCOL_ERROR)
        else:
            stream.remote_closed = True
            stream.half_close()

    def _open(self, number: int, head: Head, ends: int) -> None:
        self._last = number
        if number > self._accept_up_to or len(self._streams) >= self.limits.streams:
            self._refuse(number)
            return
        if head.malformed:
            raise StreamFault(Code.PROTOCOL_ERROR)
        if head.method != "POST" or not head.is_grpc:
            self._answer_http(number, 405 if head.method != "POST" else 415, ends)
            return
        stream = self._streams[number] = GrpcStream(self, number, head, self._peer_window)
        stream.remote_closed = bool(ends)
        start = self._sessions.get(head.path)
        if start is None:
            stream.finish(UNIMPLEMENTED, f"there is no method {head.path}")
            return
        try:
            stream.join(start(stream))
        except Exception:
            stream.crashed()
            return
        if ends:
            stream.half_close()

    def _refuse(self, number: int) -> None:
        """The peer may send it elsewhere: nothing of it was looked at."""
        self._guard.idle_frame()
        self._guard.cut_short(number)
        self.writer.write(rst_stream(number, Code.REFUSED_STREAM))

    def _answer_http(self, number: int, status: int, ends: int) -> None:
        block = self.opening() + http_block(status)
        self.writer.write(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        if not ends:
            self._guard.cut_short(number)
            self.writer.write(rst_stream(number, Code.NO_ERROR))

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
        if stream is None:
            return
        stream.reset()
        if not stream.answered:  # Envoy ends those so that were, once it has heard what it wanted to know
            self._guard.reset(stream.heard)

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
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")

    def _on_ping(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a PING frame names a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PING frame has not eight bytes")
        if not flags & Flag.ACK:
            self._guard.idle_frame()
            self.writer.write(frame(frames.PING, Flag.ACK, 0, payload))
        elif payload == _FAREWELL and self._draining and self._accept_up_to == STREAM_MASK:
            self._accept_up_to = self._last
            self.writer.write(goaway(self._last, Code.NO_ERROR))

    def _on_goaway(self, number: int, _flags: int, payload: bytes) -> None:
        """The peer will take no streams from us, which we never open. Its own go on until it closes the connection."""
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a GOAWAY frame names a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a GOAWAY frame is too short")
        self._guard.idle_frame()

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

    def _reset(self, number: int, code: Code) -> None:
        """Ends one stream for a fault of the peer."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.reset()
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
            stream.reset()
