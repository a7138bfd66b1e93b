"""Bad input gets the status that TF Serving or Triton would give, and one sentence that names the part at fault."""

import asyncio
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from integration.stack.embedded import EmbeddedNode
from integration.stack.ports import free_ports
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from mesh.protos import tfs_pb2
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.raw import channel, rest_client, unary

IMAGE = np.zeros((1, 64), dtype=np.float32)
LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("path", "status", "fault"),
    [
        ("/v1/models/:predict", 400, "model name"),
        ("/v1/models/..:predict", 400, "model name"),
        ("/v1/models/%2e%2e:predict", 400, "model name"),
        ("/v1/models/a%2Fb:predict", 400, "model name"),
        ("/v1/models/a%0ab:predict", 400, "model name"),
        ("/v1/models/a/versions/x:predict", 400, "version"),
        ("/v1/models/" + "a" * 300 + ":predict", 400, "model name"),
        ("/v2/models/a%5Cb/infer", 400, "model name"),
        ("/v2/models/%2e%2e/infer", 400, "model name"),
        ("/v2/models/a/versions/-1/infer", 400, "version"),
        ("/v1/models/unknown:predict", 404, "unknown"),
        ("/v2/models/unknown/infer", 404, "unknown"),
        ("/v2/repository/models/acme-svm/load", 403, "repository control"),
    ],
)
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_rest(edge: Sidecar, path: str, status: int, fault: str, http2: bool) -> None:
    async with rest_client(edge.http, http2=http2) as client:
        # Given as a target the path is not tidied up on its way out.
        reply = await client.post("/", content=b'{"instances": [[0]]}', extensions={"target": path.encode()})
    assert reply.status_code == status, reply.text
    if "unknown" not in path:  # that one is answered by the node, and Triton calls its JSON text
        assert reply.headers["content-type"] == "application/json"
    assert list(json.loads(reply.content)) == ["error"]
    assert fault in json.loads(reply.content)["error"]


def predict(name: str) -> calls.Grpc:
    request = tfs_pb2.PredictRequest(model_spec=tfs_pb2.ModelSpec(name=name))
    return calls.Grpc(calls.TFS_PREDICT, request.SerializeToString())


@pytest.mark.parametrize(
    ("call", "code", "fault"),
    [
        (calls.Grpc(calls.TFS_PREDICT, b""), "INVALID_ARGUMENT", "odel"),
        (calls.Grpc(calls.TFS_PREDICT, b"\xff\xff\xff\xff"), "INVALID_ARGUMENT", "protobuf"),
        (calls.Grpc(calls.V2_INFER, b"\x0a\x7fshort"), "INVALID_ARGUMENT", "protobuf"),
        (predict("../up"), "INVALID_ARGUMENT", "model name"),
        (predict("a\nb"), "INVALID_ARGUMENT", "model name"),
        (predict(".."), "INVALID_ARGUMENT", "model name"),
        (calls.v2_grpc("a/b", IMAGE), "INVALID_ARGUMENT", "model name"),
        (predict("unknown"), "NOT_FOUND", "unknown"),
        (calls.v2_grpc("unknown", IMAGE), "NOT_FOUND", "unknown"),
        (calls.Grpc(calls.TFS_RELOAD, b""), "PERMISSION_DENIED", "model cache"),
        (
            calls.Grpc("/inference.GRPCInferenceService/RepositoryModelLoad", b""),
            "PERMISSION_DENIED",
            "repository control",
        ),
    ],
)
async def test_grpc(edge: Sidecar, call: calls.Grpc, code: str, fault: str) -> None:
    async with channel(edge.target) as through:
        reply = await unary(through, call.method, call.message)
    assert (reply.code, reply.message) == (code, b""), reply.details
    assert fault in reply.details


async def test_a_bad_call_does_not_disturb_its_neighbours(edge: Sidecar, nodes: dict[str, EmbeddedNode]) -> None:
    good = calls.tfs_grpc("acme-bayes", IMAGE)
    async with channel(edge.target) as through:
        for _ in range(20):
            bad = await unary(through, calls.TFS_PREDICT, b"\xff\xff")
            reply = await unary(through, good.method, good.message)
            assert (bad.code, reply.code) == ("INVALID_ARGUMENT", "OK")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38"])
async def small_edge(
    request: pytest.FixtureRequest, nodes: dict[str, EmbeddedNode], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sidecar]:
    """An edge that takes bodies up to LIMIT."""
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp(f"small-{request.param}")
    sections = {"limits": {"body_bytes": LIMIT}}
    async with Sidecar(folder, [node.node for node in nodes.values()], envoy=request.param, sections=sections) as edge:
        yield edge


@pytest.mark.parametrize("write", [calls.tfs_rest, calls.v2_rest], ids=["tfs", "v2"])
async def test_a_rest_body_over_the_limit(small_edge: Sidecar, write: object) -> None:
    """The limit is for bodies that are held: a plain call's is not read."""
    call = write("acme-bayes", np.zeros((2 * LIMIT // 256, 64), dtype=np.float32))
    async with rest_client(small_edge.http) as client:
        plain = await client.post(call.path, content=call.body, headers=call.headers)
        raced = await client.post(call.path, content=call.body, headers={**call.headers, "tloc": "5000"})
    assert plain.status_code == 200
    assert raced.status_code == 413
    assert "limit" in raced.json()["error"]


async def test_a_grpc_body_over_the_limit(small_edge: Sidecar) -> None:
    call = calls.tfs_grpc("acme-bayes", np.zeros((2 * LIMIT // 256, 64), dtype=np.float32))
    async with channel(small_edge.target) as through:
        unnamed = await unary(through, call.method, call.message)
        named = await unary(through, call.method, call.message, [("x-tbms-model", "acme-bayes")])
        raced = await unary(through, call.method, call.message, [("tloc", "5000")])
    assert (unnamed.code, named.code) == ("OK", "OK")
    assert raced.code == "RESOURCE_EXHAUSTED"
    assert "limit" in raced.details


@pytest.mark.parametrize("version", ["1.40", "1.38"])
async def test_no_node_alive(version: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    need_envoy(version)
    grpc_port, rest_port = free_ports(2)
    dead = Node("dead", grpc=f"127.0.0.1:{grpc_port}", rest=f"127.0.0.1:{rest_port}")
    sections = {"envoy": {"server_wait_seconds": 60.0}}
    async with Sidecar(tmp_path_factory.mktemp("dead"), [dead], envoy=version, sections=sections) as edge:
        while (await edge.status())["nodes"][0]["alive"]:
            await asyncio.sleep(0.02)
        # At once, and not when Envoy has given its server up.
        async with asyncio.timeout(50):
            async with rest_client(edge.http) as client:
                call = calls.tfs_rest("acme-bayes", IMAGE)
                reply = await client.post(call.path, content=call.body, headers=call.headers)
            assert reply.status_code == 503
            assert list(reply.json()) == ["error"]
            async with channel(edge.target) as through:
                answer = await unary(through, calls.TFS_PREDICT, calls.tfs_grpc("acme-bayes", IMAGE).message)
            assert answer.code == "UNAVAILABLE"
