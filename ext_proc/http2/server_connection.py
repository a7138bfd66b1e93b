"""A server's side of one HTTP/2 connection, for gRPC: the peer opens streams, sessions answer them."""

from collections.abc import Callable, Mapping

from ext_proc.http2 import frames
from ext_proc.http2.connection import Link
from ext_proc.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    STREAM_MASK,
    ConnectionFault,
    ErrorCode,
    Setting,
    StreamFault,
    frame,
    goaway,
    rst_stream,
)
from ext_proc.http2.grpc_messages import UNIMPLEMENTED
from ext_proc.http2.headers import Head, HeadDecoder, read_head
from ext_proc.http2.hpack_literals import http_block
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_stream import ServerStream
from ext_proc.http2.session import Open

UNAVAILABLE = 14
# What a PING of ours carries at a shutdown; its answer shows which streams the peer opened before it knew.
_FAREWELL = b"farewell"


class ServerConnection(Link[ServerStream]):
    """See `Link`. `sessions` gives what answers, by the request's path."""

    def __init__(self, sessions: Mapping[str, Open], wake: Callable[[], None], limits: Limits | None = None) -> None:
        super().__init__(wake, limits)
        self._sessions = sessions
        self._heads = HeadDecoder(self.limits.headers, read_head)
        self._accept_up_to = STREAM_MASK
        self._began = False

    def take(self) -> bytes:
        """See `Link.take`."""
        data = super().take()
        if self._draining and not self._streams and self._accept_up_to != STREAM_MASK:
            self.ended = True
        return data

    def shut_down(self) -> None:
        """Asks the peer to open no more streams. Those that are open, or were opened meanwhile, go on."""
        if self.ended or self._draining:
            return
        self._draining = True
        if not self._began:
            self.ended = True
            return
        self.writer.write(goaway(STREAM_MASK, ErrorCode.NO_ERROR), frame(frames.PING, 0, 0, _FAREWELL))

    def end(self) -> None:
        """Ends the connection now; what is not answered is UNAVAILABLE."""
        if self.ended:
            return
        for stream in list(self._streams.values()):
            stream.withdraw(UNAVAILABLE, "the server is shutting down")
        self.writer.write(goaway(self._last, ErrorCode.NO_ERROR))
        self.ended = True

    def _on_preface(self, data: bytes) -> int:
        if self._began:
            return 0
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 without an upgrade")
        if len(data) < size:
            return -1
        self._began = True
        limits = self.limits
        self._greet(
            {
                Setting.MAX_CONCURRENT_STREAMS: limits.streams,
                Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
                Setting.MAX_FRAME_SIZE: limits.frame,
                Setting.MAX_HEADER_LIST_SIZE: limits.headers,
            }
        )
        return size

    def _on_block(self, number: int, block: bytes, ends: int) -> None:
        """Of a new stream, or trailers."""
        head = self._heads.decode(block)
        if number > self._last:
            self._open(number, head, ends)
            return
        stream = self._stream_of_block(number)
        if stream is None:
            return
        if not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        stream.remote_closed = True
        stream.half_close()

    def _open(self, number: int, head: Head, ends: int) -> None:
        self._last = number
        if number > self._accept_up_to or len(self._streams) >= self.limits.streams:
            self._refuse(number)
            return
        if head.malformed:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        if head.method != "POST" or not head.is_grpc:
            self._answer_http(number, 405 if head.method != "POST" else 415, ends)
            return
        stream = self._streams[number] = ServerStream(self, number, head, self._peer_window)
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
        self.writer.write(rst_stream(number, ErrorCode.REFUSED_STREAM))

    def _answer_http(self, number: int, status: int, ends: int) -> None:
        block = self.opening() + http_block(status)
        self.writer.write(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        if not ends:
            self._guard.cut_short(number)
            self.writer.write(rst_stream(number, ErrorCode.NO_ERROR))

    def _on_reset_of(self, stream: ServerStream) -> None:
        if not stream.answered:  # Envoy ends those so that were, once it has heard what it wanted to know
            self._guard.reset(stream.heard)

    def _on_pong(self, payload: bytes) -> None:
        if payload == _FAREWELL and self._draining and self._accept_up_to == STREAM_MASK:
            self._accept_up_to = self._last
            self.writer.write(goaway(self._last, ErrorCode.NO_ERROR))

    def _on_goaway(self, number: int, _flags: int, payload: bytes) -> None:
        """The peer will take no streams from us, which we never open. Its own go on until it closes the connection."""
        self._check_goaway(number, payload)
