"""The asyncio shell of a connection: one read in, at most one write out."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from ext_proc.http2.aio.patience import Patience
from ext_proc.http2.aio.turns import Turns
from ext_proc.http2.connection import H2Connection
from ext_proc.http2.limits import KiB, MiB

logger = logging.getLogger(__name__)

# Bytes that wait in the transport: above the first it is full, below the second it has room again.
_FULL, _ROOM = 1 * MiB, 256 * KiB
# A full transport still takes frames of control. A peer that makes us write so many and reads none is cut off.
_CONTROL_WHILE_FULL = 16 * MiB
# A connection that ends is given so many seconds to take its last words.
_LAST_WORDS = 5.0

ConnectionT = TypeVar("ConnectionT", bound=H2Connection[Any])


class Http2Protocol(asyncio.Protocol, Generic[ConnectionT]):
    """The transport of one connection, whose owner is told when it is `made` and, once, when it is `lost`.

    It is lost by whatever comes first: the loop says so, it is aborted, or it takes no more of what is written.
    `side` makes the server's or the client's side of HTTP/2, given its `wake`: what it is to call when it has
    something to send. A connection that is behind reads no more until its `turns` have caught up with its peer.
    """

    def __init__(
        self,
        side: Callable[[Callable[[], None]], ConnectionT],
        made: Callable[["Http2Protocol[ConnectionT]"], None],
        lost: Callable[["Http2Protocol[ConnectionT]"], None],
        turns: Turns,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock: Callable[[], float] = self._loop.time
        self._made, self._lost = made, lost
        self._turns = turns
        self._waits = False  # for its turn
        self._transport: asyncio.Transport | None = None
        self._scheduled = False
        self._control = 0
        self._last_words: Patience | None = None
        self._over = False
        self.connection = side(self._wake)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are none of asyncio's classes.
        transport = cast(asyncio.Transport, transport)
        if self._over:
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(_FULL, _ROOM)
        self._made(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        connection = self.connection
        connection.receive(data, self._clock())
        if connection.behind:
            self._fall_behind()
        self._flush()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._control = 0
        self.connection.pause()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.connection.resume()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self._tell_lost()

    def shut_down(self) -> None:
        """See `H2Connection.shut_down`."""
        self.connection.shut_down()
        self._flush()

    def end(self) -> None:
        """See `H2Connection.end`."""
        self.connection.end()
        self._flush()

    def abort(self) -> None:
        """Closes the connection, whatever the peer has not read yet; also one that is not made yet."""
        transport, self._transport = self._transport, None
        self._tell_lost()
        if transport is not None:
            transport.abort()

    def _tell_lost(self) -> None:
        """Tells the streams and the owner, without waiting for the loop to say it too."""
        if self._over:
            return
        self._over = True
        if self._last_words is not None:
            self._last_words.cancel()
        self.connection.lost()
        if self.connection.behind:
            self._fall_behind()
        self._lost(self)

    def _fall_behind(self) -> None:
        """Reads no more until it has caught up."""
        if self._waits:
            return
        self._waits = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._turns.wait(self._go_on)

    def _go_on(self) -> bool:
        """Takes its turn; whether it wants another."""
        self.connection.go_on(self._clock())
        self._flush()
        self._waits = self.connection.behind
        if not self._waits and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return self._waits

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        connection = self.connection
        data = connection.take()
        if data:
            if connection.writer.paused:
                self._control += len(data)
            try:
                transport.write(data)
            except Exception:  # a transport of uvloop that is closed raises RuntimeError
                logger.warning("connection cut off", extra={"cause": "it cannot be written to"}, exc_info=True)
                self.abort()
                return
        if connection.ended:
            if connection.behind:
                self._fall_behind()
            if not transport.is_closing():
                transport.close()
                self._last_words = Patience(_LAST_WORDS, self.abort)
        elif self._control > _CONTROL_WHILE_FULL:
            logger.warning("connection cut off", extra={"cause": "the peer does not read what it asks for"})
            self.abort()
        elif connection.unsent:
            self._wake()
