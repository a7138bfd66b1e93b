"""The embedded model server: ONNX models behind TF Serving's and Triton's APIs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import grpc
from aiohttp import web
from pydantic import Field

from mesh.address import spelled
from mesh.errors import MeshError
from mesh.model_server import rest_server
from mesh.model_server.errors import ServingError
from mesh.model_server.models import Models
from mesh.model_server.repository import Repository
from mesh.model_server.runner import Runner
from mesh.model_server.runtime import onnx_runtime
from mesh.model_server.tfs.grpc_api import TfServing
from mesh.model_server.tfs.rest_api import TfServingRest
from mesh.model_server.v2.grpc_api import V2Grpc
from mesh.model_server.v2.rest_api import V2Rest
from mesh.settings import Settings
from mesh.system_words import system_words

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
"""How long calls in flight may take to end when the server is stopped."""
MAX_PENDING = 100_000
"""Calls of gRPC that wait to be begun; grpcio's own bound refuses a burst of about a thousand."""
# The names under which health is asked: of the server as a whole, and of each API.
_HEALTH_SERVICES = ("", "tensorflow.serving.PredictionService", "inference.GRPCInferenceService")


class ModelServerSettings(Settings):
    """One embedded model server.

    `delay_ms` and `load_delay_ms` simulate slower models, for demos, tests and benchmarks; a model's own tbms.json adds
    to them.
    """

    repository: Path = Field(
        description="Holds `<name>/<version>/model.onnx`; a reload may name base paths inside it only."
    )
    host: str = Field("127.0.0.1", description="The address of both ports.")
    grpc_port: int = Field(8500, ge=0, le=65535, description="0 is any free one.")
    rest_port: int = Field(8501, ge=0, le=65535, description="0 is any free one.")
    load: Literal["all", "none"] | tuple[str, ...] = Field("all", description="The models loaded at the start.")
    max_message_bytes: int = Field(256 * 1024 * 1024, gt=0, le=2**31 - 1, description="Of one request, unpacked.")
    threads: int = Field(2, ge=1, le=256, description="Inferences that run at once.")
    delay_ms: float = Field(0.0, ge=0, description="Added to each inference.")
    load_delay_ms: float = Field(0.0, ge=0, description="Added to each load.")
    node: str = Field("", description="The name of this server in its logs.")


async def serve(settings: ModelServerSettings, ready: Callable[[int, int], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then let the calls in flight end (for DRAIN_SECONDS at most).

    `ready(grpc_port, rest_port)` is called once both ports listen and the models of the start are loaded, or have
    failed to: such a failure is logged and shows in the model's status, it does not stop the server.
    Raises MeshError if a port cannot be had or the repository is no folder, ServingError without ONNX Runtime.
    """
    onnx_runtime()  # without it no model can be served: said at the start, not at the first load
    if not settings.repository.is_dir():
        raise MeshError(f"{settings.repository}: the model repository is not a folder")
    started = asyncio.Event()
    models = Models(Repository(settings.repository), load_delay_ms=settings.load_delay_ms)
    runner = Runner(threads=settings.threads, delay_ms=settings.delay_ms)
    server, grpc_port = _grpc_server(settings, models, runner, started.is_set)
    health = await _health(server)
    tf_serving, v2 = TfServingRest(models, runner), V2Rest(models, runner, started.is_set)
    rest = rest_server.runner(
        rest_server.application(tf_serving.answer, v2.answer, settings.max_message_bytes, runner.offload),
        DRAIN_SECONDS,
    )
    await server.start()
    try:
        await rest.setup()
        try:
            await web.TCPSite(rest, settings.host, settings.rest_port).start()
        except OSError as error:
            address = spelled(settings.host, settings.rest_port)
            raise MeshError(f"cannot listen on {address}: {system_words(error)}") from error
        rest_port = rest.addresses[0][1]
        loading = asyncio.create_task(_load(models, settings))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            started.set()
            await health(True)
            logger.info(
                "model server ready",
                extra={"node": settings.node, "grpc_port": grpc_port, "rest_port": rest_port},
            )
            ready(grpc_port, rest_port)
        await stopping
        loading.cancel()
    finally:
        started.clear()
        await health(False)
        await asyncio.gather(server.stop(DRAIN_SECONDS), rest.cleanup())
        await models.close()
        await runner.close()


def _grpc_server(
    settings: ModelServerSettings, models: Models, runner: Runner, is_ready: Callable[[], bool]
) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.server.max_pending_requests", MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_PENDING),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share
        ]
    )
    for handler in (*TfServing(models, runner).services(), *V2Grpc(models, runner, is_ready).services()):
        server.add_generic_rpc_handlers((handler,))
    address = spelled(settings.host, settings.grpc_port)
    try:
        port: int = server.add_insecure_port(address)
    except RuntimeError:  # gRPC does not say why
        raise MeshError(f"cannot listen on {address}: is it another process's?") from None
    return server, port


async def _health(server: grpc.aio.Server) -> Callable[[bool], Awaitable[None]]:
    """Adds grpc.health.v1, as load balancers and Kubernetes ask; returns what tells it whether the server is ready."""
    # Comes with the extra of this server.
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_health.v1.health import aio

    servicer = aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    states = health_pb2.HealthCheckResponse

    async def tell(is_ready: bool) -> None:
        for name in _HEALTH_SERVICES:
            await servicer.set(name, states.SERVING if is_ready else states.NOT_SERVING)

    await tell(False)
    return tell


async def _load(models: Models, settings: ModelServerSettings) -> None:
    if settings.load == "none":
        return
    names = models.repository.names() if settings.load == "all" else settings.load
    results = await asyncio.gather(*(models.load(name) for name in names), return_exceptions=True)
    for name, result in zip(names, results, strict=True):
        if isinstance(result, ServingError):
            logger.error("model of the start did not load", extra={"model": name, "error": result.message})
        elif isinstance(result, BaseException):
            raise result
