"""The connections of a client to one address, made when they are needed."""

import asyncio
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from ext_proc.http2.aio.protocol import Http2Protocol
from ext_proc.http2.client_connection import ClientConnection
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.limits import Limits

# One is the rule: more are made where the peer takes no more streams on those that there are.
_MOST_CONNECTIONS = 32
_CONNECT_SECONDS = 1.0
# A request that the peer has provably not looked at is sent again: its connection was going away.
_TRIES = 3


class ConnectionPool:
    """Sends requests on the connection that has room, and dials one where none has; every response is read whole.

    An async context manager; `address` is `ip:port` or `unix:PATH`.
    """

    def __init__(self, address: str, limits: Limits | None = None) -> None:
        self._address = address
        self._limits = limits
        self._protocols: set[Http2Protocol[ClientConnection]] = set()
        self._dialling: asyncio.Task[OSError | None] | None = None
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        for protocol in tuple(self._protocols):
            protocol.end()
        await self._group.__aexit__(kind, error, trace)

    async def request(self, block: bytes, body: tuple[bytes | memoryview, ...], limit: int) -> HttpResponse | Broken:
        """Sends a request and reads its response; resets its stream when cancelled.

        `block` is its header block, `limit` bounds the body of the response in bytes. Raises OSError where no
        connection can be had.
        """
        outcome: HttpResponse | Broken = Broken("it was not sent")
        for _ in range(_TRIES):
            connection = self._with_room() or await self._dialled()
            done: asyncio.Future[HttpResponse | Broken] = self._loop.create_future()
            stream = connection.request(block, body, limit, partial(_settle, done))
            try:
                outcome = await done
            except asyncio.CancelledError:
                stream.give_up()
                raise
            if isinstance(outcome, HttpResponse) or not outcome.unprocessed:
                break
        return outcome

    def _with_room(self) -> ClientConnection | None:
        for protocol in self._protocols:
            if protocol.connection.has_room:
                return protocol.connection
        return None

    async def _dialled(self) -> ClientConnection:
        """A connection with room, once there is one. Whoever stops waiting does not stop the others' dialling."""
        while True:
            if len(self._protocols) >= _MOST_CONNECTIONS:
                raise OSError(f"{self._address} takes no more calls on {_MOST_CONNECTIONS} connections")
            if self._dialling is None:
                self._dialling = self._group.create_task(self._dial())
            error = await asyncio.shield(self._dialling)
            if error is not None:
                raise error
            connection = self._with_room()
            if connection is not None:
                return connection

    async def _dial(self) -> OSError | None:
        """Makes one connection; the error where that fails, since one that is raised would end the group."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._connect()
        except TimeoutError:
            return OSError(f"no connection to {self._address} within {_CONNECT_SECONDS:g} s")
        except OSError as error:
            return error
        finally:
            self._dialling = None
        return None

    async def _connect(self) -> None:
        if self._address.startswith("unix:"):
            await self._loop.create_unix_connection(self._protocol, self._address.removeprefix("unix:"))
        else:
            host, _, port = self._address.rpartition(":")
            await self._loop.create_connection(self._protocol, host.strip("[]"), int(port))

    def _protocol(self) -> Http2Protocol[ClientConnection]:
        return Http2Protocol(self._side, self._protocols.add, self._protocols.discard)

    def _side(self, wake: Callable[[], None]) -> ClientConnection:
        return ClientConnection(wake, self._limits)


def _settle(done: asyncio.Future[HttpResponse | Broken], outcome: HttpResponse | Broken) -> None:
    if not done.done():
        done.set_result(outcome)
