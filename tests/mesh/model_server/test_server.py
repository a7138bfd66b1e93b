"""Starting, readiness and stopping."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from mesh.errors import MeshError
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.server import ModelServerSettings, serve
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import running

INFER = pb.ModelInferRequest(
    model_name="m",
    inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 2])],
    raw_input_contents=[np.ones(2, np.float32).tobytes()],
)


async def names(rest: str) -> list[str]:
    async with aiohttp.ClientSession() as session, session.post(f"http://{rest}/v2/repository/index") as reply:
        return [model["name"] for model in await reply.json() if model.get("state") == "READY"]


@pytest.mark.parametrize(
    ("load", "loaded"), [("all", ["a", "b"]), ("none", []), (("b",), ["b"]), (("a", "nope", "broken"), ["a"])]
)
async def test_what_is_loaded_at_the_start(tmp_path: Path, load: str | tuple[str, ...], loaded: list[str]) -> None:
    for name in ("a", "b"):
        graphs.scaling(tmp_path / name / "1")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    async with (
        running(tmp_path, load=load) as server,
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.rest}/v2/health/ready") as ready,
    ):
        assert ready.status == 200
        assert await names(server.rest) == loaded


async def test_not_ready_while_models_load_and_stoppable_even_then(tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    stop = asyncio.Event()
    settings = ModelServerSettings(repository=tmp_path, grpc_port=0, rest_port=0, load_delay_ms=3_600_000)

    def ready(grpc_port: int, rest_port: int) -> None:
        raise AssertionError("ready before the models are loaded")

    task = asyncio.create_task(serve(settings, ready, stop))
    await asyncio.sleep(0)
    stop.set()
    await task


async def test_calls_in_flight_end_before_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    run, loop = OnnxModel.run, asyncio.get_running_loop()
    running_now, leave = asyncio.Semaphore(0), threading.Event()

    def held(model: OnnxModel, inputs: Any, outputs: Any) -> Any:
        loop.call_soon_threadsafe(running_now.release)
        assert leave.wait(30)
        return run(model, inputs, outputs)

    monkeypatch.setattr(OnnxModel, "run", held)
    async with (
        running(tmp_path, threads=2) as server,
        grpc.aio.insecure_channel(server.grpc) as channel,
        aiohttp.ClientSession() as session,
    ):
        over_grpc = asyncio.ensure_future(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(INFER))

        async def over_http() -> int:
            body = {"instances": [[1, 2]]}
            async with session.post(f"http://{server.rest}/v1/models/m:predict", json=body) as reply:
                return reply.status

        over_rest = asyncio.ensure_future(over_http())
        for _ in range(2):
            await running_now.acquire()
        server.stop.set()
        await refuses(server.rest)
        assert not server.task.done()
        leave.set()
        await server.task
        assert (await over_grpc).raw_output_contents == [np.full(2, 2, np.float32).tobytes()]
        assert await over_rest == 200


async def refuses(address: str) -> None:
    """Returns once nobody listens there."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.01)


async def test_messages_over_the_limit(tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    async with running(tmp_path, max_message_bytes=1000) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        large = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"x" * 1001])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(large)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.ModelInfer(INFER)).model_name == "m"


async def test_a_burst_of_calls_is_answered(tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    async with running(tmp_path) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        replies = await asyncio.gather(*(stub.ModelInfer(INFER) for _ in range(1500)))
    assert {reply.raw_output_contents[0] for reply in replies} == {np.full(2, 2, np.float32).tobytes()}


async def test_ports_that_are_taken_and_repositories_that_are_not_there(tmp_path: Path) -> None:
    def ready(grpc_port: int, rest_port: int) -> None:
        raise AssertionError("must not start")

    with pytest.raises(MeshError, match="no: the model repository is not a folder"):
        await serve(ModelServerSettings(repository=tmp_path / "no"), ready, asyncio.Event())
    async with running(tmp_path) as server:
        for port in ("grpc", "rest"):
            taken = int(getattr(server, port).rpartition(":")[2])
            ports = {"grpc_port": 0, "rest_port": 0, f"{port}_port": taken}
            with pytest.raises(MeshError, match=f"cannot listen on 127.0.0.1:{taken}"):
                await serve(ModelServerSettings(repository=tmp_path, **ports), ready, asyncio.Event())


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService", "inference.GRPCInferenceService"])
async def test_health_is_told_as_kubernetes_and_load_balancers_ask_it(tmp_path: Path, service: str) -> None:
    graphs.scaling(tmp_path / "m" / "1", 2)
    async with running(tmp_path) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        reply = await check(health_pb2.HealthCheckRequest(service=service))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await check(health_pb2.HealthCheckRequest(service="nobody"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
