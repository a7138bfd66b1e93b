"""Calls of many clients share batches at a node: real Envoys, real model servers, real clients' bytes."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2

from ext_proc.batching.record import read_batches
from ext_proc.planning.batch_log import read_log
from integration.peers.triton import missing, triton, write_model
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from mesh.protos import tfs_pb2
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import write_onnx
from tests.integration.raw import GrpcReply, RestReply, channel, rest, rest_client, unary

# As a client writes it that wants its answer in time, and has nothing against company.
SHARING = {"tloc": "20000;cross-request=1;cross-lag=10"}
ALONE = {"tloc": "20000;cross-request=0"}
CALLS = 24
JSON = {"content-type": "application/json"}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CachedNode]:
    need_envoy(request.param)
    shelf = tmp_path_factory.mktemp("shelf")
    write_onnx(shelf, "m")
    # Long enough for the others to come while the first one is with the model server.
    (shelf / "m" / "tbms.json").write_text(json.dumps({"delay_ms": 100}))
    spec = CachedSpec("node", envoy=request.param, batching={"default": {"max_rows": 16}, "check_share": 0})
    async with CachedNode(spec, shelf, tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(node: CachedNode) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(node.agent.http) as client:
        yield client


async def counted(node: CachedNode, name: str) -> dict[str, float]:
    """A metric of the node by its labels, written as they are told."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{node.agent.admin}/metrics")).text
    return {labels: float(value) for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.M)}


async def batches(node: CachedNode) -> float:
    return sum((await counted(node, "tbms_batches_total")).values())


def rows_of(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rows that no other call has: one to three of them."""
    rows = 1 + number % 3
    return (np.arange(2 * rows, dtype=np.float32) + 100 * number).reshape(rows, 2)


def tfs_rest(number: int) -> tuple[str, bytes, dict[str, str]]:
    return "/v1/models/m:predict", json.dumps({"instances": rows_of(number).tolist()}).encode(), JSON


def tfs_columns(number: int) -> tuple[str, bytes, dict[str, str]]:
    return "/v1/models/m:predict", json.dumps({"inputs": {"x": rows_of(number).tolist()}}).encode(), JSON


def v2_json(number: int) -> tuple[str, bytes, dict[str, str]]:
    rows = rows_of(number)
    tensor = {"name": "x", "datatype": "FP32", "shape": rows.shape, "data": rows.ravel().tolist()}
    return "/v2/models/m/infer", json.dumps({"id": f"c{number}", "inputs": [tensor]}).encode(), JSON


def v2_binary(number: int) -> tuple[str, bytes, dict[str, str]]:
    rows = rows_of(number)
    sized = {"binary_data_size": rows.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": rows.shape, "parameters": sized}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return "/v2/models/m/infer", head + rows.tobytes(), headers


def tfs_grpc(number: int) -> tuple[str, bytes]:
    rows = rows_of(number)
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensor = request.inputs["x"]
    tensor.dtype = tfs_pb2.DT_FLOAT
    tensor.tensor_content = rows.tobytes()
    for size in rows.shape:
        tensor.tensor_shape.dim.add(size=size)
    return calls.TFS_PREDICT, request.SerializeToString(deterministic=True)


def v2_grpc(number: int) -> tuple[str, bytes]:
    rows = rows_of(number)
    request = service_pb2.ModelInferRequest(model_name="m", id=f"c{number}", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    return calls.V2_INFER, request.SerializeToString(deterministic=True)


Ask = Callable[[int, dict[str, str]], Awaitable[Any]]


async def same_bytes_in_fewer_batches(node: CachedNode, ask: Ask, most: int) -> None:
    """All calls alone, then all at once: the same replies, in at most so many batches.

    On a machine that is slow enough they do not come at once: then they come once more.
    """
    alone = [await ask(number, ALONE) for number in range(CALLS)]
    async with asyncio.timeout(120):
        sent = 0.0
        while not 0 < sent <= most:
            before = await batches(node)
            together = await asyncio.gather(*[ask(number, SHARING) for number in range(CALLS)])
            assert list(together) == alone
            sent = await batches(node) - before


def told(reply: RestReply) -> Any:
    assert reply.status == 200, reply.body
    return reply.body, reply.headers


@pytest.mark.envoy
@pytest.mark.parametrize("write", [tfs_rest, tfs_columns, v2_json, v2_binary])
async def test_rest_calls_share_batches_and_get_the_bytes_that_they_get_alone(
    node: CachedNode, http: httpx.AsyncClient, write: Callable[[int], tuple[str, bytes, dict[str, str]]]
) -> None:
    async def ask(number: int, extra: dict[str, str]) -> Any:
        path, body, headers = write(number)
        return told(await rest(http, path, body, {**headers, "accept-encoding": "identity", **extra}))

    await same_bytes_in_fewer_batches(node, ask, most=CALLS * 3 // 4)


@pytest.mark.envoy
@pytest.mark.parametrize("write", [tfs_grpc, v2_grpc])
async def test_grpc_calls_do_too_where_their_envoy_takes_an_answer(
    node: CachedNode, write: Callable[[int], tuple[str, bytes]]
) -> None:
    async with channel(node.agent.target) as through:

        async def ask(number: int, extra: dict[str, str]) -> Any:
            method, message = write(number)
            reply: GrpcReply = await unary(through, method, message, tuple(extra.items()))
            assert reply.code == "OK", reply.details
            return reply.message, reply.trailing

        if node.spec.envoy == "1.36":
            before = await batches(node)
            replies = await asyncio.gather(*[ask(number, SHARING) for number in range(CALLS)])
            assert await batches(node) == before
            assert len({message for message, _ in replies}) == CALLS
        else:
            await same_bytes_in_fewer_batches(node, ask, most=CALLS * 3 // 4)


@pytest.mark.envoy
async def test_a_limit_that_cannot_be_kept_is_refused_at_once_and_says_so(
    node: CachedNode, http: httpx.AsyncClient
) -> None:
    path, body, headers = v2_json(1)
    (await http.post(path, content=body, headers={**headers, **SHARING})).raise_for_status()
    reply = await http.post(path, content=body, headers={**headers, "tloc": "20;cross-request=1"})
    assert reply.status_code == 504
    assert reply.headers["tbms-answer"] == "();why=late"
    assert "too busy" in reply.json()["error"]


@pytest.mark.envoy
@pytest.mark.parametrize(
    "value", ["50;cross-request=1;cross-lag=soon", "50;cross-request=1;priority=high", "soon;cross-request=1"]
)
async def test_a_lag_or_a_priority_that_is_no_number_is_refused_by_the_name_of_the_header(
    node: CachedNode, http: httpx.AsyncClient, value: str
) -> None:
    path, body, headers = v2_json(1)
    reply = await http.post(path, content=body, headers={**headers, "tloc": f"{value};cross-request=1"})
    assert reply.status_code == 400
    assert "tloc" in reply.json()["error"]


# One row of 666 and the whole batch fails, as a model fails that reads all of its rows before it answers any.
POISONED = """
import numpy
import time
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.02)
        replies = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            if (x == 666).any():
                replies.append(pb.InferenceResponse(error=pb.TritonError("a row that cannot be")))
            else:
                replies.append(pb.InferenceResponse([pb.Tensor("y", x * 2)]))
        return replies
"""
CONFIG = """
backend: "python"
max_batch_size: 32
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def before_triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CachedNode]:
    if reason := missing():
        pytest.skip(reason)
    shelf, folder = tmp_path_factory.mktemp("shelf"), tmp_path_factory.mktemp("node")
    write_model(shelf, "m", CONFIG, POISONED)
    repository = folder / "cache" / "models"
    repository.mkdir(parents=True)
    async with triton(repository) as server:
        model = {"max_rows": 32, "cross_request": True, "share_protocols": True}
        spec = CachedSpec("node", batching={"models": {"m": model}, "log": True, "check_share": 0})
        async with CachedNode(spec, shelf, folder, Served(server.grpc, server.rest)) as running:
            yield running


async def ask_all(http: httpx.AsyncClient, values: Sequence[float]) -> list[httpx.Response]:
    def post(value: float) -> Awaitable[httpx.Response]:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, 0.0]}
        return http.post("/v2/models/m/infer", json={"inputs": [tensor]})

    return list(await asyncio.gather(*map(post, values)))


@pytest.mark.triton
async def test_a_poisoned_call_among_32_fails_alone_in_tritons_words(before_triton: CachedNode) -> None:
    async with rest_client(before_triton.agent.http) as http:
        (await ask_all(http, [0.0]))[0].raise_for_status()
        values = [666.0 if number == 19 else float(number) for number in range(33)]
        async with asyncio.timeout(120):
            in_company = False
            while not in_company:
                replies = await ask_all(http, values)
                for value, reply in zip(values, replies, strict=True):
                    if value == 666.0:
                        assert reply.status_code == 500
                        assert "a row that cannot be" in reply.json()["error"]
                    else:
                        assert reply.json()["outputs"][0]["data"] == [2 * value, 0.0]
                in_company = 'model="m",outcome="again"' in await counted(before_triton, "tbms_batches_ended_total")


@pytest.mark.triton
async def test_calls_over_rest_and_over_grpc_share_batches_and_get_tritons_own_bytes(before_triton: CachedNode) -> None:
    async with rest_client(before_triton.agent.http) as http, channel(before_triton.agent.target) as through:

        async def ask(number: int, extra: dict[str, str]) -> Any:
            if number % 2:
                path, body, headers = v2_binary(number)
                return told(await rest(http, path, body, {**headers, "accept-encoding": "identity", **extra}))
            method, message = v2_grpc(number)
            reply: GrpcReply = await unary(through, method, message, tuple(extra.items()))
            assert reply.code == "OK", reply.details
            return reply.message, reply.trailing

        await same_bytes_in_fewer_batches(before_triton, ask, most=CALLS // 3)
        poisoned = np.array([[666, 0]], np.float32).tobytes()
        path, body, headers = v2_binary(0)
        bad = rest(http, path, body[: -len(poisoned)] + poisoned, {**headers, **SHARING})
        failed, *others = await asyncio.gather(bad, *[ask(number, SHARING) for number in range(CALLS)])
        assert failed.status == 500
        assert b"a row that cannot be" in failed.body
        assert others == [await ask(number, ALONE) for number in range(CALLS)]
    calls = await counted(before_triton, "tbms_batch_calls_sum")
    sent = await counted(before_triton, "tbms_batch_calls_count")
    assert calls['model="m"'] > sent['model="m"']


@pytest.mark.triton
async def test_the_log_of_a_node_tells_its_batches(before_triton: CachedNode) -> None:
    async with rest_client(before_triton.agent.http) as http:
        await ask_all(http, [float(number) for number in range(9)])
    sent = sum((await counted(before_triton, "tbms_batch_rows_sum")).values())
    assert before_triton.agent.server is not None
    lines = before_triton.agent.server.log.read_text().splitlines()
    assert sum(record.rows for record in read_batches(lines)) == sent
    assert read_log(lines, "m", "server.log").row_bytes > 0


@pytest.mark.triton
async def test_five_hundred_clients_come_and_go_and_each_gets_its_own(before_triton: CachedNode) -> None:
    """A quarter of them hang up at some moment; nobody else notices."""
    dice = random.Random(7)
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=before_triton.agent.http, limits=limits, timeout=60, trust_env=False) as http:

        async def client(number: int) -> None:
            await asyncio.sleep(dice.random())
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [float(number), 1.0]}
            call = asyncio.ensure_future(http.post("/v2/models/m/infer", json={"inputs": [tensor]}))
            if number % 4 == 3:
                await asyncio.sleep(dice.random() * 0.1)
                call.cancel()
                await asyncio.wait([call])
            else:
                assert (await call).json()["outputs"][0]["data"] == [2.0 * number, 2.0]

        async with asyncio.TaskGroup() as clients:
            for number in range(700, 1200):
                clients.create_task(client(number))
    async with httpx.AsyncClient(trust_env=False) as admin:
        text = (await admin.get(f"{before_triton.agent.admin}/metrics")).text
    assert "tbms_batch_queue_calls 0.0" in text
    assert re.search(r"^tbms_cache_in_flight 0.0$", text, re.M)


@pytest.mark.triton
async def test_what_triton_gathers_itself_is_handed_over_one_by_one(tmp_path: Path) -> None:
    """Nothing is configured: the node hears of the batcher from Triton, after a load and of what it already holds."""
    if reason := missing():
        pytest.skip(reason)
    shelf, folder = tmp_path / "shelf", tmp_path / "node"
    for name, batcher in (("m", "dynamic_batching { max_queue_delay_microseconds: 50000 }"), ("plain", "")):
        write_model(shelf, name, CONFIG + batcher, POISONED)
    repository = folder / "cache" / "models"
    repository.mkdir(parents=True)
    settings = {"max_rows": 32, "cross_request": True}
    spec = CachedSpec("node", batching={"models": {"m": settings, "plain": settings}, "check_share": 0})
    async with triton(repository) as server:
        for adopted in (False, True):
            async with CachedNode(spec, shelf, folder, Served(server.grpc, server.rest)) as node:
                async with rest_client(node.agent.http) as http:
                    for model in ("m", "plain"):
                        (await infer(http, model, 0.0)).raise_for_status()
                    before = await executions(server.rest, "m")
                    replies = await asyncio.gather(*[infer(http, "m", float(number)) for number in range(CALLS)])
                assert [reply.json()["outputs"][0]["data"] for reply in replies] == [
                    [2.0 * number, 0.0] for number in range(CALLS)
                ]
                rows = await counted(node, "tbms_batch_rows_sum")
                sent = await counted(node, "tbms_batch_rows_count")
                assert rows['model="m"'] == sent['model="m"'] == CALLS + 1
                assert await executions(server.rest, "m") - before < CALLS, adopted
                async with httpx.AsyncClient(trust_env=False) as admin:
                    status = (await admin.get(f"{node.agent.admin}/status")).json()
                assert {each["model"]: each["batcher"] for each in status["models"]} == {
                    "m": "dynamic_batching",
                    "plain": "",
                }


async def infer(http: httpx.AsyncClient, model: str, value: float) -> httpx.Response:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, 0.0]}
    return await http.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})


async def executions(rest: str, model: str) -> int:
    """How often Triton has run the model."""
    async with httpx.AsyncClient(trust_env=False) as direct:
        stats = (await direct.get(f"http://{rest}/v2/models/{model}/stats")).json()
    count: int = stats["model_stats"][0]["execution_count"]
    return count
