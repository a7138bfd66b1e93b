"""The connections of a client to one address, made when they are needed."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from ext_proc.http2.aio.connections import Connections
from ext_proc.http2.aio.patience import patience
from ext_proc.http2.aio.protocol import Http2Protocol
from ext_proc.http2.client_connection import ClientConnection
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.limits import Limits
from mesh.address import parse_address

# One or two are the rule: more are made where those that there are have no room.
_MOST_CONNECTIONS = 32
_CONNECT_SECONDS = 1.0
# A request that the peer has provably not looked at is sent again: its connection was going away.
_TRIES = 3


class ConnectionPool:
    """Sends requests on the connection that has room, and dials one where none has; every response is read whole.

    An async context manager; `address` is `ip:port` or `unix:PATH`. A connection is in the pool from the return of its
    dial until its transport ends, whichever side ends it. `connect_seconds` is how long the peer may take to accept
    one. `reachable` says how the last dial went, or is None before there was any.
    """

    def __init__(
        self, address: str, limits: Limits | None = None, *, connect_seconds: float = _CONNECT_SECONDS
    ) -> None:
        self._address = parse_address(address)
        self._limits = limits
        self._connect_seconds = connect_seconds
        self._connections: Connections[ClientConnection] = Connections()
        # What those who need a connection wait for; it is settled however the task of the dial ends.
        self._dialling: asyncio.Future[OSError | None] | None = None
        self._closed = False
        self._group = asyncio.TaskGroup()
        self.reachable: bool | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._dialling is not None:
            self._task.cancel()
        for protocol in self._connections.all():
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

    async def dial(self) -> None:
        """Makes a connection where there is none with room, as a request would. Raises OSError."""
        if self._with_room() is None:
            await self._dialled()

    def _with_room(self) -> ClientConnection | None:
        """Where as many are made as may be, any on which the peer takes a request: better a risk than a refusal."""
        for protocol in self._connections:
            if protocol.connection.has_room:
                return protocol.connection
        if len(self._connections) >= _MOST_CONNECTIONS:
            return next((each.connection for each in self._connections if each.connection.is_open), None)
        return None

    async def _dialled(self) -> ClientConnection:
        """A connection with room, once there is one. Whoever stops waiting does not stop the others' dialling."""
        # Others may have filled each connection that was dialled meanwhile; more of them than these there cannot be.
        for _ in range(_MOST_CONNECTIONS + 1):
            if self._closed:
                raise OSError(f"no more calls are sent to {self._address}")
            if len(self._connections) >= _MOST_CONNECTIONS:
                break
            error = await asyncio.shield(self._dialling or self._begin_dial())
            if error is not None:
                raise OSError(str(error))
            connection = self._with_room()
            if connection is not None:
                return connection
        raise OSError(f"{self._address} takes no more calls on {len(self._connections)} connections")

    def _begin_dial(self) -> "asyncio.Future[OSError | None]":
        dialling = self._dialling = self._loop.create_future()
        self._task = self._group.create_task(self._dial())
        self._task.add_done_callback(self._end_dial)
        return dialling

    def _end_dial(self, task: "asyncio.Task[OSError | None]") -> None:
        """Tells those who wait; also where the dial was cancelled before it had begun."""
        dialling, self._dialling = self._dialling, None
        error = OSError(f"no more calls are sent to {self._address}") if task.cancelled() else task.result()
        if not task.cancelled():
            self.reachable = error is None
        if dialling is not None:
            dialling.set_result(error)

    async def _dial(self) -> OSError | None:
        """Makes one connection; the error where that fails, since one that is raised would end the group.

        What the event loop makes of a dial that is given up differs: a transport may be closed without a word to its
        protocol. So nobody knows the protocol before the dial has returned, and whoever gives up ends it here.
        """
        protocol = Http2Protocol(self._side, _ignore, self._lost, self._connections.turns)
        try:
            async with patience(self._connect_seconds):
                await self._connect(protocol)
        except TimeoutError:
            return OSError(f"no connection to {self._address} within {self._connect_seconds:g} s")
        except OSError as error:
            return error
        else:
            if protocol.connection.ended:
                return OSError(f"{self._address} closed the connection at once")
            self._connections.add(protocol)
            return None
        finally:
            if protocol not in self._connections:
                protocol.abort()

    async def _connect(self, protocol: Http2Protocol[ClientConnection]) -> None:
        if self._address.path:
            await self._loop.create_unix_connection(lambda: protocol, self._address.path)
        else:
            await self._loop.create_connection(lambda: protocol, self._address.host, self._address.port)

    def _lost(self, protocol: Http2Protocol[ClientConnection]) -> None:
        self._connections.discard(protocol)

    def _side(self, wake: Callable[[], None]) -> ClientConnection:
        return ClientConnection(wake, self._limits, time.monotonic)


def _ignore(_: Http2Protocol[ClientConnection]) -> None:
    """A connection that is made is not yet one that can be used."""


def _settle(done: asyncio.Future[HttpResponse | Broken], outcome: HttpResponse | Broken) -> None:
    if not done.done():
        done.set_result(outcome)
