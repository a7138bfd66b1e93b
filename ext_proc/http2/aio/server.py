"""The server that Envoy connects to: gRPC over HTTP/2 on a Unix socket or on TCP, with or without mTLS."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from ext_proc.config import ServerSettings, TlsSettings
from ext_proc.errors import TbmsError
from ext_proc.http2.aio.protocol import Http2Protocol
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_connection import ServerConnection
from ext_proc.http2.session import Open
from ext_proc.server.health import Health

_BACKLOG = 4096
# Seconds that peers have to read the last words of connections that end.
_LAST_WORDS = 1.0


class Http2Server:
    """Serves `sessions`, by path, and grpc.health.v1. A restart takes a Unix socket over without a gap."""

    def __init__(self, settings: ServerSettings, sessions: Mapping[str, Open], limits: Limits | None = None) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._health = Health(path.split("/")[1] for path in sessions)
        self._sessions = {**sessions, **self._health.sessions()}
        self._connections: set[Http2Protocol[ServerConnection]] = set()
        self._stopping = False
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.address = settings.listen

    async def start(self) -> None:
        """Binds and serves. Raises TbmsError if the address cannot be had."""
        listen = self._settings.listen
        try:
            tls = None if self._settings.tls is None else _tls(self._settings.tls)
            if listen.startswith("unix:"):
                await self._start_on_socket(Path(listen.removeprefix("unix:")), tls)
            else:
                await self._start_on_tcp(listen, tls)
        except OSError as error:  # ssl.SSLError is one
            raise TbmsError(f"server.listen: cannot listen on {listen}: {error}") from error

    async def stop(self, grace: float) -> None:
        """Tells Envoy to go elsewhere, and waits up to `grace` seconds for calls in flight."""
        self._stopping = True
        self._health.stop_serving()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.shut_down()
        await self._all_gone(grace)
        for connection in tuple(self._connections):
            connection.end()
        await self._all_gone(_LAST_WORDS)
        for connection in tuple(self._connections):
            connection.abort()
        await self._all_gone(_LAST_WORDS)

    async def _start_on_socket(self, path: Path, tls: ssl.SSLContext | None) -> None:
        # Binding under a name of our own and renaming lets the next process take the path over while this one drains.
        # Whoever removes a socket's file at its end (asyncio from 3.13 on) knows only that name.
        own = path.with_name(f"{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        own.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(own))
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._connect, sock=listener, ssl=tls, backlog=_BACKLOG)
        except BaseException:
            listener.close()
            raise
        own.chmod(self._settings.socket_mode)
        own.rename(path)

    async def _start_on_tcp(self, listen: str, tls: ssl.SSLContext | None) -> None:
        host, _, port = listen.rpartition(":")
        self._server = await asyncio.get_running_loop().create_server(
            self._connect, host.strip("[]"), int(port), ssl=tls, backlog=_BACKLOG, reuse_port=True
        )
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def _all_gone(self, within: float) -> None:
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._empty.wait()

    def _connect(self) -> Http2Protocol[ServerConnection]:
        return Http2Protocol(self._join, self._made, self._lost)

    def _join(self, wake: Callable[[], None]) -> ServerConnection:
        return ServerConnection(self._sessions, wake, self._limits)

    def _made(self, connection: Http2Protocol[ServerConnection]) -> None:
        self._connections.add(connection)
        if self._stopping:
            connection.end()

    def _lost(self, connection: Http2Protocol[ServerConnection]) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()


def _tls(settings: TlsSettings) -> ssl.SSLContext:
    """HTTP/2 over TLS, for clients that show a certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(settings.certificate, settings.key)
    context.set_alpn_protocols(["h2"])
    return context
