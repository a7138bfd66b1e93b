"""The gRPC server that Envoy connects to: ExternalProcessor and grpc.health.v1."""

import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ext_proc.config import ServerSettings
from ext_proc.errors import TbmsError

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

# Envoy's streams are many and long; Python gRPC's defaults would refuse them (docs/decisions/003).
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.max_concurrent_streams", 2**31 - 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.optimization_target", "latency"),
]

Handler = Callable[[Any, Any], Awaitable[None]]


class Server:
    """Listens on a Unix socket or on TCP. A restart takes the socket over without a gap."""

    def __init__(self, settings: ServerSettings, handler: Handler) -> None:
        self._settings = settings
        self._server = grpc.aio.server(options=OPTIONS)
        method = grpc.stream_stream_rpc_method_handler(handler)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": method}),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = settings.listen

    async def start(self) -> None:
        """Binds and serves. Raises TbmsError if the address cannot be had."""
        listen = self._settings.listen
        if listen.startswith("unix:"):
            await self._start_on_socket(Path(listen.removeprefix("unix:")))
        else:
            port = self._bind(listen)
            self.address = f"{listen.rpartition(':')[0]}:{port}"
            await self._server.start()
        for service in ("", SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace: float) -> None:
        """Tells Envoy to go elsewhere, and waits up to `grace` seconds for calls in flight."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def _start_on_socket(self, path: Path) -> None:
        # gRPC unlinks the path that it bound when it stops. Binding under a name of our own and renaming
        # lets the next process take the path over while this one drains, and leaves it the socket.
        own = path.with_name(f"{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        own.unlink(missing_ok=True)
        self._bind(f"unix:{own}")
        await self._server.start()
        own.chmod(self._settings.socket_mode)
        own.rename(path)

    def _bind(self, address: str) -> int:
        tls = self._settings.tls
        try:
            if tls is None:
                return int(self._server.add_insecure_port(address))
            credentials = grpc.ssl_server_credentials(
                [(tls.key.read_bytes(), tls.certificate.read_bytes())],
                root_certificates=tls.client_ca.read_bytes(),
                require_client_auth=True,
            )
            return int(self._server.add_secure_port(address, credentials))
        except (RuntimeError, OSError) as error:
            raise TbmsError(f"server.listen: cannot listen on {address}: {error}") from error


@contextlib.asynccontextmanager
async def serving(settings: ServerSettings, handler: Handler) -> Any:
    """A server for the length of a block; drains for `drain_seconds` at its end."""
    server = Server(settings, handler)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(settings.drain_seconds)
