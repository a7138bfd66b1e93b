"""A model server that does what a test says, in the test's own process: V2 over gRPC, anything over REST.

It holds what it was told to load, and writes down what must never happen: a model unloaded under a call.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import grpc.aio
from aiohttp import web
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as services

from integration.stack.cached_node import Served
from integration.stack.ports import free_ports

_MODEL = re.compile(r"/v2/models/([^/]+)/")
SLOW = "slow"  # the id of a request, the query of a path, or a header, that is answered in two halves


class ScriptedModels(services.GRPCInferenceServiceServicer):
    """`may_load` and `may_end` are gates, open at first; `half_way` counts the replies that wait for `may_end`."""

    def __init__(self) -> None:
        grpc_port, rest_port = free_ports(2)
        self.served = Served(f"127.0.0.1:{grpc_port}", f"127.0.0.1:{rest_port}")
        self.held: set[str] = set()
        self.loads: Counter[str] = Counter()
        self.unloads: list[str] = []
        self.in_use: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self.half_way = 0
        self.lacks = False  # a call for a model that is not held gets 404, and is no mistake
        self.may_load = asyncio.Event()
        self.may_end = asyncio.Event()
        self.open_gates()

    def open_gates(self) -> None:
        self.may_load.set()
        self.may_end.set()

    @contextmanager
    def _use(self, model: str) -> Any:
        if model not in self.held:
            self.mistakes.append(f"a call for {model}, which is not loaded")
        self.in_use[model] += 1
        try:
            yield
        finally:
            self.in_use[model] -= 1

    async def _second_half(self) -> None:
        self.half_way += 1
        try:
            await self.may_end.wait()
        finally:
            self.half_way -= 1

    # V2 over gRPC

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        index = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(models=[index(name=name, version="1", state="READY") for name in self.held])

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        self.loads[request.model_name] += 1
        await self.may_load.wait()
        self.held.add(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        if self.in_use[request.model_name]:
            self.mistakes.append(f"{request.model_name} was unloaded under a call")
        self.held.discard(request.model_name)
        self.unloads.append(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return pb.ModelReadyResponse(ready=request.name in self.held)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        with self._use(request.model_name):
            if request.id == SLOW:
                await self._second_half()
            await context.send_initial_metadata((("x-told", "first"),))
            context.set_trailing_metadata((("x-told", "last"),))
            return pb.ModelInferResponse(model_name=request.model_name, id=request.id)

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            with self._use(request.model_name):
                yield pb.ModelStreamInferResponse(error_message="first")
                if request.id == SLOW:
                    await self._second_half()
                yield pb.ModelStreamInferResponse(error_message="last")

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.INTERNAL, "in words of its own")

    # REST

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        model = _MODEL.match(request.path)
        if self.lacks and model and model[1] not in self.held:
            return web.Response(status=404)
        with self._use(model[1]) if model else nullcontext():
            how = request.query.get("how", "")
            if how == "late":
                await self._second_half()
                return web.Response(body=b"whole" + body, headers={"X-Told": "once"})
            if how == "nothing":
                return web.Response(status=204)
            if how == "error":
                return web.Response(status=418, body=b"in words of its own", reason="Its Own Reason")
            reply = web.StreamResponse(headers={"X-Told": "once"})
            if how == "length":
                reply.content_length = len(body) + 10
            await reply.prepare(request)
            await reply.write(b"first")
            if SLOW in request.query or SLOW in request.headers:
                await self._second_half()
            await reply.write(body)
            await reply.write(b"-last")
            await reply.write_eof()
            return reply


@asynccontextmanager
async def scripted_models() -> AsyncIterator[ScriptedModels]:
    script = ScriptedModels()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{anything:.*}", script.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    services.add_GRPCInferenceServiceServicer_to_server(script, server)
    server.add_insecure_port(script.served.grpc)
    await runner.setup()
    try:
        host, _, port = script.served.rest.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        await server.start()
        yield script
    finally:
        script.open_gates()
        await server.stop(None)
        await runner.cleanup()
