"""A client's side of one HTTP/2 connection: requests out, whole responses in."""

from collections.abc import Callable

from ext_proc.http2.client_stream import ClientStream, Ended
from ext_proc.http2.connection import H2Connection
from ext_proc.http2.flow_control import FlowControlledStream
from ext_proc.http2.frames import PREFACE, ErrorCode, Setting, goaway
from ext_proc.http2.headers import OVERSIZED_RESPONSE, HeaderDecoder, read_response_headers
from ext_proc.http2.limits import Limits
from ext_proc.http2.reset_tally import ResetTally

# Numbers of streams are used up long after a connection has grown old; it is left before that.
_LAST_NUMBER = 2**30


class ClientConnection(H2Connection[ClientStream]):
    """See `H2Connection`."""

    def __init__(
        self, wake: Callable[[], None], limits: Limits | None = None, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        super().__init__(wake, limits, clock)
        self._decoder = HeaderDecoder(self.limits, read_response_headers, OVERSIZED_RESPONSE, self._charge)
        self._next = 1
        self._tally = ResetTally()
        self.writer.write(PREFACE)
        self._greet({Setting.ENABLE_PUSH: 0})

    @property
    def _awaits(self) -> bool:
        """Whether a response is due."""
        return bool(self._streams)

    @property
    def has_room(self) -> bool:
        """Whether one more request is well placed on this connection: the peer takes it, and it can be reset."""
        return self.is_open and self._tally.takes_one_more(len(self._streams))

    @property
    def is_open(self) -> bool:
        """Whether the peer takes one more request on this connection."""
        usable = not self.ended and not self._draining and self._next < _LAST_NUMBER
        return usable and len(self._streams) < self._peer_streams

    def request(self, block: bytes, body: tuple[bytes | memoryview, ...], limit: int, ended: Ended) -> ClientStream:
        """Sends one request; only where it `is_open`. `limit` bounds the body of the response, in bytes."""
        number = self._highest = self._next
        self._next += 2
        stream = self._streams[number] = ClientStream(self, number, self._peer_window, limit, ended)
        stream.send(block, body)
        return stream

    def closed(self, stream: FlowControlledStream) -> None:
        """See `StreamOwner.closed`."""
        self._tally.ended(reset=not stream.remote_closed)
        super().closed(stream)
        if not self._streams and self._tally.is_worn and not self.ended:
            self.shut_down()

    def shut_down(self) -> None:
        """See `H2Connection.shut_down`."""
        self._draining = True
        self._end_if_drained()

    def end(self) -> None:
        """See `H2Connection.end`."""
        if not self.ended:
            self._end()
            self.writer.write(goaway(0, ErrorCode.NO_ERROR))

    def _on_header_block(self, number: int, block: bytes, ends: int) -> None:
        headers = self._decoder.decode(block)
        self._check_used(number)
        stream = self._stream_of_block(number)
        if stream is not None:
            stream.receive_headers(headers, ends)

    def _on_peer_leaving(self, last: int) -> None:
        """The peer takes no more requests here; those after the last that it names it has not looked at."""
        self._draining = True
        for stream in [self._streams.pop(number) for number in sorted(self._streams) if number > last]:
            stream.refused()
        self._end_if_drained()

    def _on_drained(self) -> None:
        self.writer.write(goaway(0, ErrorCode.NO_ERROR))
