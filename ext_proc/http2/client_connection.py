"""A client's side of one HTTP/2 connection: requests out, whole replies in."""

from collections.abc import Callable

from ext_proc.http2.client_stream import ClientStream, Ended
from ext_proc.http2.connection import Link
from ext_proc.http2.frames import PREFACE, STREAM_MASK, ErrorCode, Setting, goaway, word
from ext_proc.http2.headers import HeadDecoder, read_reply_head
from ext_proc.http2.limits import Limits

# Numbers of streams are used up long after a connection has grown old; it is left before that.
_LAST_NUMBER = 2**30


class ClientConnection(Link[ClientStream]):
    """See `Link`."""

    def __init__(self, wake: Callable[[], None], limits: Limits | None = None) -> None:
        super().__init__(wake, limits)
        self._heads = HeadDecoder(self.limits.headers, read_reply_head)
        self._next = 1
        self._most = STREAM_MASK
        self.writer.write(PREFACE)
        self._greet(
            {
                Setting.ENABLE_PUSH: 0,
                Setting.INITIAL_WINDOW_SIZE: self.limits.stream_window,
                Setting.MAX_FRAME_SIZE: self.limits.frame,
                Setting.MAX_HEADER_LIST_SIZE: self.limits.headers,
            }
        )

    @property
    def has_room(self) -> bool:
        """Whether the peer takes one more request on this connection."""
        usable = not self.ended and not self._draining and self._next < _LAST_NUMBER
        return usable and len(self._streams) < self._most

    def request(self, block: bytes, body: tuple[bytes, ...], limit: int, ended: Ended) -> ClientStream:
        """Sends one request; only where it `has_room`. `limit` bounds the reply's body, in bytes."""
        number = self._last = self._next
        self._next += 2
        exchange = self._streams[number] = ClientStream(self, number, self._peer_window, limit, ended)
        exchange.send(block, body)
        return exchange

    def shut_down(self) -> None:
        """See `Link.shut_down`."""
        self._draining = True
        self._on_idle()

    def end(self) -> None:
        """See `Link.end`."""
        if not self.ended:
            self._drop_streams()
            self.writer.write(goaway(0, ErrorCode.NO_ERROR))
            self.ended = True

    def _on_block(self, number: int, block: bytes, ends: int) -> None:
        head = self._heads.decode(block)
        self._check_used(number)
        exchange = self._stream_of_block(number)
        if exchange is not None:
            exchange.head(head, ends)

    def _on_setting(self, setting: int, value: int) -> None:
        if setting == Setting.MAX_CONCURRENT_STREAMS:
            self._most = value

    def _on_goaway(self, number: int, _flags: int, payload: bytes) -> None:
        """The peer takes no more requests here; those after the last that it names it has not looked at."""
        self._check_goaway(number, payload)
        self._draining = True
        last = word(payload, 0) & STREAM_MASK
        for exchange in [self._streams.pop(each) for each in sorted(self._streams) if each > last]:
            exchange.refused()
        self._on_idle()

    def _on_idle(self) -> None:
        if self._draining and not self._streams and not self.ended:
            self.writer.write(goaway(0, ErrorCode.NO_ERROR))
            self.ended = True
