"""Frames that carry messages: DATA, and header blocks in HEADERS and CONTINUATION (RFC 9113, sections 6.1, 6.2, 6.10).

What is common to both sides of a connection: padding, the connection's window, and which stream a frame is for. What a
whole header block means, each side knows by itself.
"""

from abc import abstractmethod
from collections.abc import Callable

from ext_proc.transport.http2.blocks import Blocks
from ext_proc.transport.http2.control import Control, StreamT
from ext_proc.transport.http2.frames import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    Code,
    ConnectionFault,
    Flag,
    StreamFault,
    unpadded,
)
from ext_proc.transport.http2.limits import Limits


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

    # Common to several.

    def _stream_of_block(self, number: int) -> StreamT | None:
        """The open stream that a header block is for; None if it is one that we have ended."""
        stream = self._streams.get(number)
        if stream is None:
            if not self._guard.was_cut_short(number):
                raise ConnectionFault(Code.STREAM_CLOSED, "headers came on a stream that was closed")
        elif stream.remote_closed:
            raise StreamFault(Code.STREAM_CLOSED)
        return stream
