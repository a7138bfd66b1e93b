"""A node that remembers what reached it: REST and gRPC on two ports, in the test's own process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from aiohttp import web

from integration.stack.ports import free_ports
from mesh.node import Node


@dataclass(frozen=True)
class Arrival:
    """One call as the node got it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return {key.lower(): value for key, value in self.headers}.get(name)


@dataclass
class Recorder:
    node: Node
    arrivals: list[Arrival] = field(default_factory=list)


class _Generic(grpc.GenericRpcHandler):
    """Answers every unary call with its own request."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self._arrivals = arrivals

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def answer(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
            headers = tuple((name, str(value)) for name, value in context.invocation_metadata() or ())
            self._arrivals.append(Arrival("POST", details.method, headers, message))
            return message

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def recorder(name: str, ports: Sequence[int] | None = None) -> AsyncIterator[Recorder]:
    grpc_port, rest_port = free_ports(2) if ports is None else ports
    seen = Recorder(Node(name, grpc=f"127.0.0.1:{grpc_port}", rest=f"127.0.0.1:{rest_port}"))

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        headers = tuple(request.headers.items())
        seen.arrivals.append(Arrival(request.method, request.raw_path, headers, body))
        return web.Response(body=body, status=200, headers={"x-recorder": name})

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{anything:.*}", answer)
    runner = web.AppRunner(app)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Generic(seen.arrivals),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", rest_port).start()
        await server.start()
        yield seen
    finally:
        await server.stop(None)
        await runner.cleanup()
