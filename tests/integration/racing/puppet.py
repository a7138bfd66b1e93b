"""A model node that does what the test says, model by model, and remembers every call and how it ended.

It speaks the four protocols with real replies: one output `y`, a float by which the model is known.
"""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from aiohttp import web
from tritonclient.grpc import service_pb2

from ext_proc.wire.call import InferenceProtocol
from integration.stack.ports import free_ports
from mesh.node import Node
from mesh.protos import tfs_pb2

Pairs = tuple[tuple[str, str | bytes], ...]


@dataclass
class Part:
    """How a model plays: what it answers, after how many seconds (None: never), and with what around it.

    `first` is how long its first call takes instead, as that of a model which has to be loaded. `status` is an HTTP
    status and the gRPC code that goes with it.
    """

    value: float = 0.0
    seconds: float | None = 0.0
    first: float | None = None
    status: tuple[int, grpc.StatusCode] = (200, grpc.StatusCode.OK)
    headers: Pairs = ()
    trailers: Pairs = ()
    body: bytes | None = None


@dataclass
class Seen:
    """One call as it came, and how it ended: `finished` or `cancelled`, at which time.

    `left` is the time in seconds until its gRPC deadline; None where it has none.
    """

    protocol: InferenceProtocol
    model: str
    version: str
    headers: tuple[tuple[str, str], ...]
    path: str
    body: bytes
    at: float
    end: str = "running"
    ended: float = 0.0
    left: float | None = None

    def header(self, name: str) -> str | None:
        return {key.lower(): value for key, value in self.headers}.get(name)


@dataclass
class Puppet:
    node: Node
    parts: dict[str, Part] = field(default_factory=dict)
    calls: list[Seen] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def plays(self, **parts: Part) -> None:
        """A new scene: earlier calls are forgotten, models get these parts."""
        self.parts, self.calls = parts, []

    def of(self, model: str) -> list[Seen]:
        return [call for call in self.calls if call.model == model]

    async def until(self, true: Callable[[], bool]) -> None:
        """Returns once it holds of the calls; generous, since it only ends a test that failed."""
        async with asyncio.timeout(60):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def play(self, seen: Seen) -> Part:
        """One call, from its arrival to the moment at which it is answered."""
        part = self.parts.get(seen.model, Part())
        seconds = part.seconds if part.first is None or self.of(seen.model) else part.first
        self.calls.append(seen)
        self._changed.set()
        try:
            await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
            seen.end = "finished"
            return part
        except asyncio.CancelledError:
            seen.end = "cancelled"
            raise
        finally:
            seen.ended = time.monotonic()
            self._changed.set()


def reply(protocol: InferenceProtocol, model: str, value: float) -> bytes:
    """A prediction of that one number."""
    if protocol is InferenceProtocol.TFS_REST:
        return json.dumps({"predictions": [value]}).encode()
    if protocol is InferenceProtocol.V2_REST:
        output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [value]}
        return json.dumps({"model_name": model, "model_version": "1", "outputs": [output]}).encode()
    if protocol is InferenceProtocol.TFS_GRPC:
        predicted = tfs_pb2.PredictResponse()
        predicted.model_spec.name = model
        tensor = predicted.outputs["y"]
        tensor.dtype = tfs_pb2.DT_FLOAT
        tensor.tensor_shape.dim.add(size=1)
        tensor.float_val.append(value)
        return bytes(predicted.SerializeToString())
    inferred = service_pb2.ModelInferResponse(model_name=model, model_version="1")
    inferred.outputs.add(name="y", datatype="FP32", shape=[1])
    inferred.raw_output_contents.append(struct.pack("<f", value))
    return bytes(inferred.SerializeToString())


def value_of(protocol: InferenceProtocol, body: bytes) -> float:
    """The number that a reply predicts."""
    if protocol is InferenceProtocol.TFS_REST:
        return float(json.loads(body)["predictions"][0])
    if protocol is InferenceProtocol.V2_REST:
        return float(json.loads(body)["outputs"][0]["data"][0])
    if protocol is InferenceProtocol.TFS_GRPC:
        tensor = tfs_pb2.PredictResponse.FromString(body).outputs["y"]
        return _float(tensor.tensor_content) if tensor.tensor_content else tensor.float_val[0]
    inferred = service_pb2.ModelInferResponse.FromString(body)
    raw = inferred.raw_output_contents
    return _float(raw[0]) if raw else inferred.outputs[0].contents.fp32_contents[0]


def _float(raw: bytes) -> float:
    return float(struct.unpack("<f", raw)[0])


class _Generic(grpc.GenericRpcHandler):
    def __init__(self, puppet: Puppet) -> None:
        self._puppet = puppet

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method

        async def answer(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
            headers = tuple((name, str(value)) for name, value in context.invocation_metadata() or ())
            if method.startswith("/tensorflow."):
                protocol, spec = InferenceProtocol.TFS_GRPC, tfs_pb2.PredictRequest.FromString(message).model_spec
                model, version = spec.name, str(spec.version.value or spec.version_label)
            else:
                asked = service_pb2.ModelInferRequest.FromString(message)
                protocol, model, version = InferenceProtocol.V2_GRPC, asked.model_name, asked.model_version
            seen = Seen(
                protocol, model, version, headers, method, message, time.monotonic(), left=context.time_remaining()
            )
            part = await self._puppet.play(seen)
            await context.send_initial_metadata(part.headers)
            context.set_trailing_metadata(part.trailers)
            if part.status[1] is not grpc.StatusCode.OK:
                await context.abort(part.status[1], f"{model}: 100% wrong", part.trailers)
            return reply(protocol, model, part.value) if part.body is None else part.body

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def puppet(name: str = "puppet") -> AsyncIterator[Puppet]:
    grpc_port, rest_port = free_ports(2)
    show = Puppet(Node(name, grpc=f"127.0.0.1:{grpc_port}", rest=f"127.0.0.1:{rest_port}"))

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        protocol = InferenceProtocol.V2_REST if request.raw_path.startswith("/v2/") else InferenceProtocol.TFS_REST
        words = request.path.split("/")  # "", v1, models, name, ...
        model = words[3].partition(":")[0]
        version = words[5].partition(":")[0] if len(words) > 5 else ""
        headers = tuple(request.headers.items())
        seen = Seen(protocol, model, version, headers, request.raw_path, body, time.monotonic())
        part = await show.play(seen)
        status = part.status[0]
        written = reply(protocol, model, part.value) if status == 200 else b'{"error": "%s: wrong"}' % model.encode()
        written = written if part.body is None else part.body
        response = web.Response(body=written, status=status)
        if not any(key == "content-type" for key, _ in part.headers):
            response.headers["content-type"] = "application/json"
        for key, value in part.headers:
            if value:
                response.headers.add(key, value if isinstance(value, str) else value.decode())
            else:
                response.headers.popall(key, None)
        return response

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{anything:.*}", answer)
    # A caller that goes away cancels its call, as on a real server that watches for it.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Generic(show),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", rest_port).start()
        await server.start()
        yield show
    finally:
        await server.stop(None)
        await runner.cleanup()
