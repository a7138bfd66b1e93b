"""A server of gRPC over HTTP/2, on a Unix socket or on TCP, with or without TLS."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ext_proc.http2.aio.connections import Connections
from ext_proc.http2.aio.listener import Listener
from ext_proc.http2.aio.protocol import Http2Protocol
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_connection import ServerConnection
from ext_proc.http2.session import Open
from mesh.address import Address, parse_address

_BACKLOG = 4096
# Seconds that peers have to read the last words of connections that end.
_LAST_WORDS = 1.0


class Http2Server:
    """Serves `sessions`, by the request's path, at `address`: `ip:port` or `unix:/path`.

    `ssl_context` has to offer "h2" by ALPN. `socket_mode` are the permissions of a Unix socket, which a restart takes
    over without a gap. Once it serves, `address` has the port that the system chose for port 0.
    """

    def __init__(
        self,
        address: str,
        sessions: Mapping[str, Open],
        limits: Limits | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        socket_mode: int = 0o660,
    ) -> None:
        self.address = address
        self._sessions = sessions
        self._limits = limits or Limits()
        self._ssl_context = ssl_context
        self._socket_mode = socket_mode
        self._connections: Connections[ServerConnection] = Connections()
        self._stopping = False
        self._empty = asyncio.Event()
        self._listener: Listener | None = None
        self._socket_file: tuple[Path, int, int] | None = None

    @property
    def accept_failures(self) -> int:
        """How often no connection could be accepted, because the process had no file descriptors left."""
        return 0 if self._listener is None else self._listener.failures

    @property
    def holds_address(self) -> bool:
        """Whether who goes by the address comes here: of a Unix socket, whether its file is still our own."""
        if self._socket_file is None:
            return self._listener is not None
        path, *own = self._socket_file
        try:
            found = path.stat()
        except OSError:
            return False
        return [found.st_dev, found.st_ino] == own

    async def start(self) -> None:
        """Binds and serves. Raises OSError if the address cannot be had."""
        address = parse_address(self.address, listening=True)
        if address.path:
            self._start_on_socket(Path(address.path))
        else:
            self._start_on_tcp(address)

    async def stop(self, grace: float) -> None:
        """Tells clients to go elsewhere, and waits up to `grace` seconds for calls in flight."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        for protocol in self._connections.all():
            protocol.shut_down()
        await self._all_gone(grace)
        for protocol in self._connections.all():
            protocol.end()
        await self._all_gone(_LAST_WORDS)
        for protocol in self._connections.all():
            protocol.abort()
        await self._all_gone(_LAST_WORDS)
        if self._listener is not None:
            self._listener.give_up()

    def _start_on_socket(self, path: Path) -> None:
        # Binding under a name of our own and renaming lets the next process take the path over while this one drains.
        own = path.with_name(f"{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        own.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(str(own))
            listening.listen(_BACKLOG)
            own.chmod(self._socket_mode)
            made = own.stat()
            own.rename(path)
        except BaseException:
            listening.close()
            raise
        self._socket_file = (path, made.st_dev, made.st_ino)
        self._listen(listening)

    def _start_on_tcp(self, address: Address) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG, reuse_port=True)
        self.address = str(replace(address, port=listening.getsockname()[1]))
        self._listen(listening)

    def _listen(self, listening: socket.socket) -> None:
        self._listener = Listener(listening, self._protocol, self._ssl_context)

    async def _all_gone(self, within: float) -> None:
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._empty.wait()

    def _protocol(self) -> Http2Protocol[ServerConnection]:
        return Http2Protocol(self._side, self._made, self._lost, self._connections.turns)

    def _side(self, wake: Callable[[], None]) -> ServerConnection:
        return ServerConnection(self._sessions, wake, self._limits, time.monotonic)

    def _made(self, protocol: Http2Protocol[ServerConnection]) -> None:
        self._connections.add(protocol)
        if self._stopping:
            protocol.end()

    def _lost(self, protocol: Http2Protocol[ServerConnection]) -> None:
        self._connections.discard(protocol)
        if not self._connections:
            self._empty.set()
