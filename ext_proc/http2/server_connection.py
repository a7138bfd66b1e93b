"""A server's side of one HTTP/2 connection, for gRPC: the peer opens streams, sessions answer them."""

from collections.abc import Callable, Mapping

from ext_proc.grpc_status import GrpcStatus
from ext_proc.http2 import frames
from ext_proc.http2.connection import H2Connection
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
from ext_proc.http2.headers import OVERSIZED_REQUEST, HeaderDecoder, RequestHeaders, read_request_headers
from ext_proc.http2.hpack_literals import http_status
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_stream import ServerStream
from ext_proc.http2.session import Open

# What a PING of ours carries at a shutdown; its answer shows which streams the peer opened before it knew.
_FAREWELL = b"farewell"


class ServerConnection(H2Connection[ServerStream]):
    """See `H2Connection`. `sessions` gives what answers, by the request's path.

    It shuts down in two steps (section 6.8): GOAWAY that names no last stream and a PING; once that is answered, the
    GOAWAY that counts. Streams that the peer opens from then on are refused.
    """

    def __init__(
        self,
        sessions: Mapping[str, Open],
        wake: Callable[[], None],
        limits: Limits | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(wake, limits, clock)
        self._sessions = sessions
        self._decoder = HeaderDecoder(self.limits, read_request_headers, OVERSIZED_REQUEST, self._charge)
        self._began = False  # whether the client's preface has come
        self._shutting_down = False  # whether the first GOAWAY is sent; `_draining` follows the second

    def shut_down(self) -> None:
        """See `H2Connection.shut_down`."""
        if self.ended or self._shutting_down:
            return
        self._shutting_down = True
        if not self._began:
            self.ended = True
            return
        self.writer.write(goaway(STREAM_MASK, ErrorCode.NO_ERROR))
        self._ping(_FAREWELL)

    def end(self) -> None:
        """See `H2Connection.end`. What is not answered is UNAVAILABLE."""
        if self.ended:
            return
        for stream in list(self._streams.values()):
            stream.withdraw(GrpcStatus.UNAVAILABLE, "the server is shutting down")
        self.writer.write(goaway(self._highest, ErrorCode.NO_ERROR))
        self._end()

    @property
    def _awaits(self) -> bool:
        """Always: a peer that is gone would stay for ever, for it is the one that speaks first."""
        return True

    def _read_preface(self, data: bytes) -> int:
        if self._began:
            return 0
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 without an upgrade")
        if len(data) < size:
            return -1
        self._began = True
        self._greet({Setting.MAX_CONCURRENT_STREAMS: self.limits.streams})
        return size

    def _on_header_block(self, number: int, block: bytes, ends: int) -> None:
        """Opens a new stream, or takes the trailers of one that is open."""
        headers = self._decoder.decode(block)
        if number > self._highest:
            self._open(number, headers, ends)
            return
        stream = self._stream_of_block(number)
        if stream is None:
            return
        if headers.oversized:
            raise StreamFault(ErrorCode.ENHANCE_YOUR_CALM)
        if not ends:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        stream.remote_closed = True
        stream.half_close()

    def _open(self, number: int, headers: RequestHeaders, ends: int) -> None:
        self._highest = number
        if self._draining or len(self._streams) >= self.limits.streams or self.holdings.full:
            self._refuse(number)
            return
        if headers.oversized:
            self._answer_http(number, 431, ends)
            return
        if headers.malformed:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR)
        if headers.method != "POST" or not headers.is_grpc:
            self._answer_http(number, 405 if headers.method != "POST" else 415, ends)
            return
        stream = self._streams[number] = ServerStream(self, number, headers, self._peer_window)
        stream.remote_closed = bool(ends)
        start = self._sessions.get(headers.path)
        if start is None:
            self.floods.idle_frame()
            stream.finish(GrpcStatus.UNIMPLEMENTED, f"there is no method {headers.path}")
            return
        self.floods.served += 1
        try:
            stream.join(start(stream))
        except Exception:
            stream.crashed()
            return
        if ends:
            stream.half_close()

    def _refuse(self, number: int) -> None:
        """The peer may send it elsewhere: nothing of it was looked at."""
        self.floods.idle_frame()
        self._ended_streams.add(number)
        self.writer.write(rst_stream(number, ErrorCode.REFUSED_STREAM))

    def _answer_http(self, number: int, status: int, ends: int) -> None:
        """What is not of gRPC, or cannot be looked at, has no stream here. Raises ConnectionFault."""
        self.floods.idle_frame()
        block = self.table_size_update() + http_status(status)
        self.writer.write(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
        if not ends:
            self._ended_streams.add(number)
            self.writer.write(rst_stream(number, ErrorCode.NO_ERROR))

    def _on_stream_reset(self, stream: ServerStream) -> None:
        if not stream.answered:  # Envoy ends those so that were, once it has heard what it wanted to know
            self.floods.reset(stream.heard)

    def _on_pong(self, payload: bytes) -> None:
        if payload == _FAREWELL and self._shutting_down and not self._draining:
            self._draining = True
            self.writer.write(goaway(self._highest, ErrorCode.NO_ERROR))
            self._end_if_drained()
