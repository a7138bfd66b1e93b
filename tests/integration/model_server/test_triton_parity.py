"""The embedded server answers V2 calls, good and bad, as a real Triton does."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import onnx
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from yarl import URL as Url

from integration.peers.triton import missing, triton, write_model
from tests.integration.model_server.field_cases import GRPC_FIELDS, REST_FIELDS
from tests.integration.parity_cases import GRPC, REST, Http, infer, tensor
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import running

pytestmark = pytest.mark.triton

ECHO = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb.get_input_tensor_by_name(request, "{input}").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("{output}", tensor{change})]) for tensor in tensors]
"""
CONFIG = """
backend: "python"
input [{{ name: "{input}" data_type: {type} dims: {dims} }}]
output [{{ name: "{output}" data_type: {type} dims: {dims} }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
"""
# model -> (input, output, Triton's type, ONNX's type)
ECHOES = {
    "text": ("s", "t", "TYPE_STRING", onnx.TensorProto.STRING),
    "half": ("h", "k", "TYPE_FP16", onnx.TensorProto.FLOAT16),
    "tiny": ("i", "j", "TYPE_INT8", onnx.TensorProto.INT8),
    "byte": ("i", "j", "TYPE_UINT8", onnx.TensorProto.UINT8),
    "flag": ("i", "j", "TYPE_BOOL", onnx.TensorProto.BOOL),
}
LOADED = ["double", *ECHOES]


@dataclass(frozen=True)
class Server:
    grpc: str
    rest: str


@dataclass(frozen=True)
class Both:
    triton: Server
    ours: Server


def write_triton(repository: Path) -> None:
    for name in ("double", "cold"):
        config = CONFIG.format(input="x", output="y", type="TYPE_FP32", dims="[ -1, 2 ]")
        write_model(repository, name, config, ECHO.format(input="x", output="y", change=" * 2"))
    for name, (given, result, kind, _) in ECHOES.items():
        config = CONFIG.format(input=given, output=result, type=kind, dims="[ -1 ]")
        write_model(repository, name, config, ECHO.format(input=given, output=result, change=""))


def write_ours(repository: Path) -> None:
    for name in ("double", "cold"):
        graphs.scaling(repository / name / "1")
    for name, (given, result, _, kind) in ECHOES.items():
        graphs.echo(repository / name / "1", kind, name=given, result=result)


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Both]:
    if reason := missing():
        pytest.skip(reason)
    write_triton(folder / "triton")
    write_ours(folder / "ours")
    # Strict readiness means that one failed load makes the whole of Triton not ready, which is not copied.
    options = ["--strict-readiness=false"]
    async with (
        triton(folder / "triton", load=LOADED, options=options) as real,
        running(folder / "ours", load=tuple(LOADED)) as embedded,
    ):
        yield Both(Server(real.grpc, real.rest), Server(embedded.grpc, embedded.rest))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    async with pair(tmp_path_factory.mktemp("grpc")) as servers:
        yield servers


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both_for_rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    """A pair of its own: the calls load and unload, and so must start from the same state."""
    async with pair(tmp_path_factory.mktemp("rest")) as servers:
        yield servers


async def call_grpc(server: Server, method: str, request: Message) -> tuple[str, Any]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            reply = await getattr(stub, method)(request)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()
    return "OK", comparable(json_format.MessageToDict(reply, preserving_proto_field_name=True))


def comparable(reply: dict[str, Any]) -> dict[str, Any]:
    """Without what differs by nature: times."""
    for statistics in reply.get("model_stats", []):
        for key in ("last_inference", "inference_stats", "batch_stats", "inference_count", "execution_count"):
            statistics.pop(key, None)
    return reply


async def settle(server: Server) -> None:
    """Triton unloads in the background: wait until it is done."""
    for _ in range(200):
        if await call_grpc(server, "ModelReady", pb.ModelReadyRequest(name="cold")) == ("OK", {}):
            index = await call_grpc(server, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
            if not any(model["name"] == "cold" for model in index[1].get("models", [])):
                return
        await asyncio.sleep(0.02)
    raise AssertionError("the model is not unloaded")


@pytest.mark.parametrize("name", GRPC)
async def test_grpc(both: Both, name: str) -> None:
    method, request = GRPC[name]
    theirs = await call_grpc(both.triton, method, request)
    ours = await call_grpc(both.ours, method, request)
    assert ours == theirs
    if method == "RepositoryModelUnload":
        await settle(both.triton)


@pytest.mark.parametrize(
    ("method", "field"), [(method, field) for method in GRPC_FIELDS for field in GRPC_FIELDS[method]]
)
async def test_grpc_fields(both: Both, method: str, field: str) -> None:
    async def replies(server: Server) -> dict[str, Any]:
        return {what: await call_grpc(server, method, request) for what, request in GRPC_FIELDS[method][field].items()}

    assert await replies(both.ours) == await replies(both.triton)


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig"])
@pytest.mark.parametrize("model", LOADED)
async def test_descriptions(both: Both, method: str, model: str) -> None:
    request = getattr(pb, f"{method}Request")(name=model)
    (_, theirs), (_, ours) = [await call_grpc(server, method, request) for server in (both.triton, both.ours)]
    theirs, ours = theirs.get("config", theirs), ours.get("config", ours)
    assert theirs.keys() <= ours.keys() | {"optimization"}
    for key in ("name", "versions", "inputs", "outputs", "input", "output", "version_policy", "instance_group"):
        assert ours.get(key) == theirs.get(key)


async def test_stream(both: Both) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        yield infer("double", tensor(fp32=[1, 2]), id="good")
        yield infer("nope", tensor(fp32=[1, 2]), id="unknown")
        yield infer("double", tensor(shape=(1, 3), fp32=[1, 2, 3]), id="bad shape")
        yield infer("double", tensor(fp32=[3, 4]), id="good again")

    answers = []
    for server in (both.triton, both.ours):
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            replies = [json_format.MessageToDict(reply) async for reply in stub.ModelStreamInfer(requests())]
            # Triton answers refusals at once, so they may overtake.
            answers.append(sorted(replies, key=lambda reply: reply["inferResponse"]["id"]))
    assert len(answers[0]) == 4
    assert answers[1] == answers[0]


async def call_rest(server: Server, call: Http) -> tuple[int, dict[str, str], bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(
            call.method, Url(f"http://{server.rest}{call.path}", encoded=True), data=call.body, headers=call.headers
        ) as reply,
    ):
        body = await reply.read()
        headers = {key: value for key, value in reply.headers.items() if key.lower() not in ("date", "content-length")}
    return reply.status, headers, gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body


@pytest.mark.parametrize("name", REST)
async def test_rest(both_for_rest: Both, name: str) -> None:
    theirs = await call_rest(both_for_rest.triton, REST[name])
    ours = await call_rest(both_for_rest.ours, REST[name])
    assert ours == theirs
    if name == "unload":
        await settle(both_for_rest.triton)


@pytest.mark.parametrize("field", REST_FIELDS)
async def test_rest_fields(both_for_rest: Both, field: str) -> None:
    async def replies(server: Server) -> dict[str, Any]:
        return {what: await call_rest(server, call) for what, call in REST_FIELDS[field].items()}

    assert await replies(both_for_rest.ours) == await replies(both_for_rest.triton)
