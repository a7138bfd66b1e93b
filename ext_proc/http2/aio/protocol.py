"""The asyncio shell of a connection: one read in, at most one write out."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from ext_proc.http2.connection import Link
from ext_proc.http2.limits import KiB, MiB

logger = logging.getLogger(__name__)

# Bytes that wait in the transport: above the first it is full, below the second it has room again.
_FULL, _ROOM = 1 * MiB, 256 * KiB
# A full transport still takes frames of control. A peer that makes us write so many and reads none is cut off.
_CONTROL_WHILE_FULL = 16 * MiB
# A connection whose peer has not said a word is closed after this many seconds.
_SILENCE = 30.0
# A connection that ends is given so many seconds to take its last words.
_LAST_WORDS = 5.0


LinkT = TypeVar("LinkT", bound=Link[Any])


class Http2Protocol(asyncio.Protocol, Generic[LinkT]):
    """One connection, whose owner is told when it is `made` and when it is `lost`.

    `join` makes its side of HTTP/2, given what that is to call when it has something to send.
    """

    def __init__(
        self,
        join: Callable[[Callable[[], None]], LinkT],
        made: Callable[["Http2Protocol[LinkT]"], None],
        lost: Callable[["Http2Protocol[LinkT]"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock: Callable[[], float] = self._loop.time
        self._made, self._lost = made, lost
        self._transport: asyncio.Transport | None = None
        self._scheduled = False
        self._control = 0
        self._timer: asyncio.TimerHandle | None = None
        self.link = join(self._wake)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(_FULL, _ROOM)
        self._timer = self._loop.call_later(_SILENCE, transport.abort)
        self._made(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        link = self.link
        if self._timer is not None and not link.ended:
            self._timer.cancel()
            self._timer = None
        link.receive(data, self._clock())
        self._flush()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._control = 0
        self.link.pause()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.link.resume()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self.link.lost()
        self._lost(self)

    def shut_down(self) -> None:
        """See `Link.shut_down`."""
        self.link.shut_down()
        self._flush()

    def end(self) -> None:
        """See `Link.end`."""
        self.link.end()
        self._flush()

    def abort(self) -> None:
        """Closes the connection, whatever the peer has not read yet."""
        if self._transport is not None:
            self._transport.abort()

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
        link = self.link
        data = link.take()
        if data:
            if link.writer.paused:
                self._control += len(data)
            transport.write(data)
        if link.ended:
            if not transport.is_closing():
                transport.close()
                self._timer = self._loop.call_later(_LAST_WORDS, transport.abort)
        elif self._control > _CONTROL_WHILE_FULL:
            logger.warning("connection cut off", extra={"cause": "the peer does not read what it asks for"})
            transport.abort()
        elif link.unsent:
            self._wake()
