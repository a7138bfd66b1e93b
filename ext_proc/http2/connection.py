"""One side of an HTTP/2 connection: bytes in; calls of its streams, and bytes out (RFC 9113).

    connection.receive(data, now)      what the peer sent; streams are called from within
    connection.behind                  whether there is more to do than its share of a turn: then, in a later turn,
    connection.go_on(now)              does the next share, and until then nothing more should be read
    connection.take()                  what is to be sent to the peer now
    connection.watch(now)              to be called every second: what takes the peer too long ends the connection
    connection.ended                   whether the transport is to be closed once what there is to take is sent

It knows no event loop, and reads a clock only to end its share of a turn, where it is given one. `wake` is called when
there is something to take outside of `receive`.
Nothing that a peer sends raises: what breaks the protocol ends its stream with RST_STREAM or the connection with
GOAWAY, under the code that RFC 9113 gives it.

What a frame that names a stream does, by the state of the stream (section 5.1). Only streams that are open or
half-closed are kept. "We ended" are those that this side ended before the peer had: what the peer had sent by then is
no fault. An error code ends the stream, one with an exclamation mark the connection.

                   open             half-closed (remote)   we ended      closed           idle
    HEADERS        trailers         STREAM_CLOSED          ignored       STREAM_CLOSED!   server: opens the stream
                                                                                          client: PROTOCOL_ERROR!
    DATA           to the stream    STREAM_CLOSED          ignored       STREAM_CLOSED    PROTOCOL_ERROR!
    RST_STREAM     ends the stream  ends the stream        ignored       ignored          PROTOCOL_ERROR!
    WINDOW_UPDATE  to the stream    to the stream          ignored       ignored          PROTOCOL_ERROR!
    PRIORITY       ignored          ignored                ignored       ignored          ignored

DATA counts against the connection's window in every state. A header block that is not whole is followed by its
CONTINUATION frames and by no other frame: PROTOCOL_ERROR!
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ext_proc.http2 import frames
from ext_proc.http2.flow_control import FlowControlledStream
from ext_proc.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    ConnectionFault,
    ErrorCode,
    Setting,
    StreamFault,
)
from ext_proc.http2.headers import HeaderBlockAssembler
from ext_proc.http2.holdings import Holdings
from ext_proc.http2.hpack_literals import NO_TABLE
from ext_proc.http2.limits import FRAME_COST, STREAMS_PER_IDLE_FRAME, FloodLimiter, Limits
from ext_proc.http2.vigil import Vigil
from ext_proc.http2.writer import Writer

logger = logging.getLogger(__name__)

# What a PING of ours carries to a peer that has gone silent.
_STILL_THERE: Final = b"still on"

StreamT = TypeVar("StreamT", bound=FlowControlledStream)


class EndedStreams:
    """The streams that this side ended before the peer had, as far as they are remembered: the last 10,000."""

    __slots__ = ("_numbers",)

    _MOST = 10_000

    def __init__(self) -> None:
        self._numbers: dict[int, None] = {}

    def add(self, number: int) -> None:
        """Remembers a stream."""
        if len(self._numbers) >= self._MOST:
            del self._numbers[next(iter(self._numbers))]
        self._numbers[number] = None

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def discard(self, number: int) -> bool:
        """Forgets a stream: the peer has ended it, too. Whether it was remembered."""
        return self._numbers.pop(number, 0) is None


class H2Connection(ABC, Generic[StreamT]):
    """The streams, windows and settings of a connection. What differs between a server and a client is in its hooks.

    The hooks are `shut_down` and `end`; `_on_header_block`, which opens streams and feeds them; and, each doing
    nothing unless it is overridden, `_read_preface`, `_on_pong`, `_on_stream_reset`, `_on_peer_leaving` and
    `_on_drained`; `_awaits` says whether the peer has to be there. A side that takes no more streams sets `_draining`,
    and `_highest` to the highest stream that it or its peer has opened.
    """

    def __init__(
        self, wake: Callable[[], None], limits: Limits | None = None, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.limits = limits = limits or Limits()
        self._clock = clock  # of the time that a turn takes; one that stands still bounds nothing
        self.writer = Writer(wake)
        self.ended = False
        self.behind = False
        self.floods = FloodLimiter(limits)
        self.holdings = Holdings(limits)
        self._streams: dict[int, StreamT] = {}
        self._highest = 0
        self._draining = False
        self._ended_streams = EndedStreams()
        self._block = HeaderBlockAssembler(limits)
        self._lost: list[StreamT] = []  # streams of a connection that has ended, which are not told of it yet
        self._rest = b""  # what was not gone through: a frame that has not come whole, and more where it is `behind`
        self._charged = 0  # what the last frame has cost beyond its bytes
        self._vigil = Vigil(limits)
        self._settled = False  # whether the peer's first SETTINGS have come
        self._peer_window = frames.DEFAULT_WINDOW  # the peer's INITIAL_WINDOW_SIZE
        self._peer_streams = frames.STREAM_MASK  # the peer's MAX_CONCURRENT_STREAMS
        self._taken = 0  # bytes that the peer has sent on the connection's window and was not granted again
        self._withheld: set[FlowControlledStream] = set()  # those that wait for the transport before they grant more
        self._table_size_update = NO_TABLE
        self._handlers = {
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_rst_stream,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
        }

    @abstractmethod
    def shut_down(self) -> None:
        """No new streams; those that are open go on, and `ended` follows the last of them."""

    @abstractmethod
    def end(self) -> None:
        """Ends the connection now, and tells every stream."""

    @abstractmethod
    def _on_header_block(self, number: int, block: bytes, ends: int) -> None:
        """Takes a whole header block; the stream is not checked yet. Raises ConnectionFault or StreamFault."""

    def _read_preface(self, data: bytes) -> int:
        """Where in the first bytes of the connection the frames begin; -1: they have not come yet.

        Called until the peer's SETTINGS have come. Raises ConnectionFault.
        """
        return 0

    def _on_pong(self, payload: bytes) -> None:
        """The peer has answered a PING of ours."""

    def _on_stream_reset(self, stream: StreamT) -> None:
        """The peer has reset a stream, which is told of it. Raises ConnectionFault."""

    def _on_peer_leaving(self, last: int) -> None:
        """A GOAWAY has come: the peer has looked at no stream of ours that is higher than `last`."""

    def _on_drained(self) -> None:
        """The last stream of a connection that is draining is over; it ends after this call."""

    @property
    @abstractmethod
    def _awaits(self) -> bool:
        """Whether a peer that has gone silent is to be asked whether it is there."""

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
        if self.behind:
            self._rest += data
            return
        self._go_through(self._rest + data if self._rest else data, now)

    def go_on(self, now: float) -> None:
        """Does the next share of what is to be done, where it is `behind`."""
        self.behind = False
        if self._lost:
            self._tell_lost()
        elif not self.ended:
            self._go_through(self._rest, now)

    def _go_through(self, data: bytes, now: float) -> None:
        self.floods.now = now
        self.writer.busy = True
        try:
            start = 0 if self._settled else self._read_preface(data)
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

    def watch(self, now: float) -> None:
        """Ends the connection of a peer that takes too long, and asks one that is silent whether it is still there."""
        if self.ended:
            return
        try:
            if self._vigil.look(now, self._settled, self._awaits, self._block):
                self._ping(_STILL_THERE)
        except ConnectionFault as fault:
            self._fail(fault)

    def take(self) -> bytes:
        """What is to be sent now."""
        writer = self.writer
        if self.holdings.over:
            self._end_holders()
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
        self._end()

    def table_size_update(self) -> bytes:
        """See `StreamOwner.table_size_update`."""
        update, self._table_size_update = self._table_size_update, b""
        return update

    def closed(self, stream: FlowControlledStream) -> None:
        """See `StreamOwner.closed`."""
        if self._streams.pop(stream.id, None) is not None and not stream.remote_closed:
            self._ended_streams.add(stream.id)
        if self._draining:
            self._end_if_drained()

    def may_grant(self, stream: FlowControlledStream) -> bool:
        """See `StreamOwner.may_grant`."""
        if self.writer.paused:
            self._withheld.add(stream)
            return False
        return self.holdings.may_grant(stream)

    def _end_holders(self) -> None:
        """Ends streams until no more is held than may be."""
        over, self.holdings.over = self.holdings.over, set()
        self.writer.busy = True
        for number in [number for number, stream in self._streams.items() if stream in over]:
            if self.holdings.full:
                logger.warning("stream refused", extra={"cause": f"its connection holds {self.holdings.held} bytes"})
                self._reset(number, ErrorCode.ENHANCE_YOUR_CALM)
        self.writer.busy = False

    def _charge(self, cost: int) -> None:
        """Counts against the share of this turn what a frame has cost beyond its bytes."""
        self._charged += cost

    def _ping(self, payload: bytes) -> None:
        self.floods.due_pongs += 1
        self.writer.write(frames.frame(frames.PING, 0, 0, payload))

    def _on_frames(self, data: bytes, start: int) -> int:
        """Handles the whole frames in `data`; returns where the rest begins."""
        unpack, header_size, stream_mask = frames.HEADER.unpack_from, frames.HEADER_SIZE, frames.STREAM_MASK
        frame_cost = FRAME_COST
        size, largest, block, begin = len(data), self.limits.frame, self._block, start
        share = start + self.limits.turn  # where this turn ends; what costs more than its bytes brings that nearer
        clock, until = self._clock, self._clock() + self.limits.turn_seconds
        high: int
        low: int
        kind: int
        flags: int
        number: int
        while size - start >= header_size:
            if start >= share or clock() >= until:
                self.behind = not self.ended
                break
            high, low, kind, flags, number = unpack(data, start)
            number &= stream_mask
            length = high << 16 | low
            if length > largest:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than MAX_FRAME_SIZE")
            first = start + header_size
            end = first + length
            if end > size:
                break
            if not self._settled:
                self._check_first(kind, flags)
            if block.pieces:
                block.check(number, kind)
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
                    self.floods.idle_frame()
            except StreamFault as fault:
                self.floods.idle_frame()
                self._reset(number, fault.code)
            start = end
            share -= frame_cost
            if self._charged:
                share, self._charged = share - self._charged, 0
        if start > begin:
            self._vigil.heard = True
        return start

    def _check_first(self, kind: int, flags: int) -> None:
        if kind != frames.SETTINGS or flags & ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        self._settled = True

    def _check_used(self, number: int) -> None:
        if not number or number > self._highest or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame names a stream that was never opened")

    def _on_data(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        self._taken += size
        if self._taken >= self.limits.connection_window >> 1:
            self._grant()
        if flags & PADDED:
            start, end = frames.unpadded(data, start, end)
        if start == end and not flags & END_STREAM:
            self.floods.idle_frame()
        stream = self._streams.get(number)
        if stream is None:
            self._check_used(number)
            if number not in self._ended_streams:
                raise StreamFault(ErrorCode.STREAM_CLOSED)
            return
        if stream.remote_closed:
            raise StreamFault(ErrorCode.STREAM_CLOSED)
        ends = stream.remote_closed = bool(flags & END_STREAM)
        if size:
            stream.receive(data, start, end, size)
        if ends:
            stream.half_close()

    def _on_headers(self, number: int, flags: int, data: bytes, start: int, end: int) -> None:
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & PADDED:
            start, end = frames.unpadded(data, start, end)
        if flags & HAS_PRIORITY:
            if end - start < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a HEADERS frame is too short for its priority")
            start += 5
        if flags & END_HEADERS:
            self._on_header_block(number, data[start:end], flags & END_STREAM)
        else:
            self._block.begin(number, flags & END_STREAM, data[start:end])

    def _on_continuation(self, number: int, flags: int, payload: bytes) -> None:
        block = self._block.go_on(flags, payload)
        if block is not None:
            self._on_header_block(number, block, self._block.ends)

    def _stream_of_block(self, number: int) -> StreamT | None:
        """The open stream that a header block is for; None if it is one that we have ended. Raises both faults."""
        stream = self._streams.get(number)
        if stream is None:
            if number not in self._ended_streams:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "headers came on a stream that was closed")
        elif stream.remote_closed:
            raise StreamFault(ErrorCode.STREAM_CLOSED)
        return stream

    def _on_priority(self, number: int, _flags: int, payload: bytes) -> None:
        """Priorities of this kind are deprecated (section 5.3.2), and only checked for their form."""
        self.floods.idle_frame()
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a PRIORITY frame names no stream")
        if len(payload) != 5:
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR)

    def _on_rst_stream(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an RST_STREAM frame has not four bytes")
        self._check_used(number)
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.reset(frames.word(payload, 0))
            self._on_stream_reset(stream)
            if self._draining:
                self._end_if_drained()
        elif not self._ended_streams.discard(number):
            self.floods.idle_frame()

    def _on_settings(self, number: int, flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a SETTINGS frame names a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS is not empty")
            self.floods.acknowledgement()
            return
        self.floods.idle_frame()
        settings = frames.read_settings(payload, self.limits.settings)
        if Setting.MAX_FRAME_SIZE in settings:
            self.writer.frame = min(settings[Setting.MAX_FRAME_SIZE], frames.MAX_FRAME_BYTES)
        self._peer_streams = settings.get(Setting.MAX_CONCURRENT_STREAMS, self._peer_streams)
        self._rewindow(settings.get(Setting.INITIAL_WINDOW_SIZE, self._peer_window))
        self.writer.write(frames.SETTINGS_ACK)

    def _rewindow(self, value: int) -> None:
        """Section 6.9.2: the windows of the open streams change by as much."""
        change, self._peer_window = value - self._peer_window, value
        if not change:
            return
        self.floods.idle_frame(len(self._streams) // STREAMS_PER_IDLE_FRAME)
        self._charge(2 * len(self._streams))
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
        if flags & ACK:
            self.floods.pong()
            self._on_pong(payload)
        else:
            self.floods.idle_frame()
            self.writer.write(frames.frame(frames.PING, ACK, 0, payload))

    def _on_goaway(self, number: int, _flags: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a GOAWAY frame names a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY frame is too short")
        self.floods.idle_frame()
        self._on_peer_leaving(frames.word(payload, 0) & frames.STREAM_MASK)

    def _on_window_update(self, number: int, _flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE frame has not four bytes")
        size = frames.word(payload, 0) & frames.STREAM_MASK
        if number:
            self._check_used(number)
            stream = self._streams.get(number)
            if not size:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR)
            if stream is None or stream.window >= self._peer_window:  # nothing was sent on it, or not by us
                self.floods.idle_frame()
            if stream is not None:
                stream.widen(size)
            return
        if not size:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE frame widens by nothing")
        if self.writer.untouched:
            self.floods.idle_frame()
        if self.writer.widen(size) > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")

    def _greet(self, settings: dict[Setting, int]) -> None:
        """Sends our settings, those of both sides added, and widens the connection's window."""
        limits = self.limits
        common = {
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_FRAME_SIZE: limits.frame,
            Setting.MAX_HEADER_LIST_SIZE: limits.headers,
        }
        widening = limits.connection_window - frames.DEFAULT_WINDOW
        self.writer.write(frames.settings_frame(settings | common), frames.window_update(0, widening))

    def _grant(self) -> None:
        """Lets the peer send more on the connection, unless it does not read what we send. Raises ConnectionFault."""
        if self._taken > self.limits.connection_window:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window was not respected")
        if self._taken and not self.writer.paused:
            self.writer.write(frames.window_update(0, self._taken))
            self._taken = 0

    def _reset(self, number: int, code: ErrorCode) -> None:
        """Ends one stream for a fault of the peer."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.reset(code)
        self._ended_streams.add(number)
        self.writer.write(frames.rst_stream(number, code))
        if self._draining:
            self._end_if_drained()

    def _end_if_drained(self) -> None:
        if not self._streams and not self.ended:
            self._on_drained()
            self.ended = True

    def _fail(self, fault: ConnectionFault) -> None:
        """Ends the connection for a fault of the peer."""
        logger.warning("connection refused", extra={"cause": fault.message, "code": fault.code.name})
        self._end()
        self.writer.write(frames.goaway(self._highest, fault.code, fault.message))

    def _end(self) -> None:
        """Ends at once; the streams are told of it, of very many some in each turn."""
        self.ended = True
        self._rest = b""
        self.writer.waiting.clear()
        self._withheld.clear()
        streams, self._streams = self._streams, {}
        self._lost += streams.values()
        self._tell_lost()

    def _tell_lost(self) -> None:
        count = self.limits.turn // FRAME_COST
        told, self._lost = self._lost[:count], self._lost[count:]
        for stream in told:
            stream.reset(ErrorCode.CANCEL)
        self.behind = bool(self._lost)
