"""The server that Envoy connects to, as the section `server` of the configuration says: address, TLS, health."""

import ssl
from collections.abc import Mapping

from ext_proc.config import ServerSettings, TlsSettings
from ext_proc.errors import TbmsError
from ext_proc.http2.aio.server import Http2Server
from ext_proc.http2.limits import Limits
from ext_proc.http2.session import Open
from ext_proc.server.health import Health
from mesh.system_words import system_words


class GrpcServer:
    """Serves `sessions`, by the request's path, and grpc.health.v1 for their services."""

    def __init__(self, settings: ServerSettings, sessions: Mapping[str, Open], limits: Limits | None = None) -> None:
        self._settings = settings
        self._limits = limits
        self._health = Health(path.split("/")[1] for path in sessions)
        self._sessions = {**sessions, **self._health.sessions()}
        self._server: Http2Server | None = None

    @property
    def address(self) -> str:
        """Where it listens; once it has started, with the port that the system chose for port 0."""
        return self._settings.listen if self._server is None else self._server.address

    @property
    def accept_failures(self) -> int:
        """See `Http2Server.accept_failures`."""
        return 0 if self._server is None else self._server.accept_failures

    @property
    def holds_address(self) -> bool:
        """See `Http2Server.holds_address`; False before the start."""
        return self._server is not None and self._server.holds_address

    async def start(self) -> None:
        """Binds and serves. Raises TbmsError if the address cannot be had or the TLS files cannot be read."""
        listen, tls = self._settings.listen, self._settings.tls
        try:
            server = Http2Server(
                listen,
                self._sessions,
                self._limits,
                ssl_context=None if tls is None else server_context(tls),
                socket_mode=self._settings.socket_mode,
            )
            await server.start()
        except OSError as error:  # ssl.SSLError is one
            raise TbmsError(f"server.listen: cannot listen on {listen}: {system_words(error)}") from error
        self._server = server

    async def stop(self, grace: float) -> None:
        """Tells Envoy to go elsewhere, and waits up to `grace` seconds for calls in flight."""
        self._health.stop_serving()
        if self._server is not None:
            await self._server.stop(grace)


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """HTTP/2 over TLS, for clients that show a certificate of the authority. Raises OSError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(settings.certificate, settings.key)
    context.set_alpn_protocols(["h2"])
    return context
