"""A listening socket whose connections are accepted a few at a time, and that waits where no more can be had.

The event loops differ where the process has no file descriptors left: asyncio's logs each attempt, and uvloop's closes
every connection that comes without a word. Here they wait in the system's queue until there are some again.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

logger = logging.getLogger(__name__)

_AT_ONCE = 64
"""Connections that are accepted in one turn of the loop."""
_RETRY_SECONDS = 0.5
"""From one attempt to the next where no connection can be had."""
_LOG_SECONDS = 10.0
"""The shortest time between two lines of the log that say so."""
HANDSHAKE_SECONDS = 30.0
"""What a peer has for the handshake of TLS."""
# Of the process, of the system, and memory for either; accept(2).
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Accepts on a bound socket that listens. `failures` counts the attempts that found no file descriptor left.

    `protocol` makes what a connection is given to. Made in a running loop; it accepts from then on.
    """

    def __init__(
        self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], ssl_context: ssl.SSLContext | None
    ) -> None:
        self.failures = 0
        self._loop = asyncio.get_running_loop()
        self._socket = listening
        self._protocol = protocol
        self._ssl = ssl_context
        self._taking: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._told = -_LOG_SECONDS
        self._closed = False
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accepts no more. What was accepted is still given to its protocol. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._retry is None:
            self._loop.remove_reader(self._socket)
        else:
            self._retry.cancel()
        self._socket.close()

    def give_up(self) -> None:
        """Ends the handshakes that are under way."""
        for task in self._taking:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._wait(error)
                return
            accepted.setblocking(False)
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._take(accepted))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    def _wait(self, error: OSError) -> None:
        """Looks again later: the socket would call at once, and for ever."""
        self.failures += 1
        self._loop.remove_reader(self._socket)
        self._retry = self._loop.call_later(_RETRY_SECONDS, self._resume)
        now = self._loop.time()
        if now - self._told >= _LOG_SECONDS:
            self._told = now
            logger.error("connections cannot be accepted, they wait", extra={"cause": error.strerror})

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._socket, self._accept)

    async def _take(self, accepted: socket.socket) -> None:
        timeout = None if self._ssl is None else HANDSHAKE_SECONDS
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, accepted, ssl=self._ssl, ssl_handshake_timeout=timeout
            )
        except OSError as error:  # ssl.SSLError is one, and so is a time-out
            logger.debug("connection not taken", extra={"cause": str(error)})
            accepted.close()
