"""What TensorFlow's own client sends is merged, and what it gets of a cut reply it reads as if it were alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import pytest_asyncio
from onnx import TensorProto

from ext_proc.wire.batch import Member
from ext_proc.wire.call import InferenceProtocol
from ext_proc.wire.codecs import CODECS
from integration.peers.tf_client import TfClient
from mesh.protos import tfs_pb2 as tfs
from tests.integration.batching.asking import METHODS, Request, ask, call_of
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running

CODEC = CODECS[InferenceProtocol.TFS_GRPC].batches


class Merging:
    """A server that waits for `size` calls, and answers them by one call to another server."""

    def __init__(self, behind: Running, size: int) -> None:
        self._behind = behind
        self._size = size
        self._waiting: list[tuple[Member, asyncio.Future[bytes]]] = []
        self.rows: list[int] = []

    async def predict(self, body: bytes, context: Any) -> bytes:
        call = call_of(InferenceProtocol.TFS_GRPC, "m")
        member = CODEC.read(call, {}, body)
        assert isinstance(member, Member), member
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, future))
        if len(self._waiting) == self._size:
            members = [each for each, _ in self._waiting]
            assert len({each.key for each in members}) == 1
            self.rows = sorted(each.rows for each in members)
            reply = await ask(self._behind.grpc, self._behind.rest, call, Request(CODEC.merge(members).body))
            for part, (_, waiting) in zip(CODEC.cut({}, reply.body, members), self._waiting, strict=True):
                waiting.set_result(part.body)
        return await future


@asynccontextmanager
async def merging(behind: Running, size: int) -> AsyncIterator[tuple[str, Merging]]:
    server, merger = grpc.aio.server(), Merging(behind, size)
    service, method = METHODS[InferenceProtocol.TFS_GRPC].removeprefix("/").split("/")
    handler = grpc.unary_unary_rpc_method_handler(merger.predict)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", merger
    finally:
        await server.stop(None)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    repository = tmp_path_factory.mktemp("repository")
    graphs.scaling(repository / "pairs" / "1")
    graphs.two(repository / "two" / "1")
    for name in ("int64", "int32", "bool", "float64", "int8", "uint8", "string"):
        kind = {"float64": "DOUBLE"}.get(name, name.upper())
        graphs.echo(repository / name / "1", getattr(TensorProto, kind), ("rows", 2))
    async with running(repository) as made:
        yield made


# A row alone is sent as typed values by TensorFlow, and several as tensor_content.
CALLS: dict[str, list[dict[str, tuple[str, Any]]]] = {
    "pairs": [{"x": ("float32", [[0.1, 2.0], [3.0, 4.0]])}, {"x": ("float32", [[5.0, 6.0], [7.0, 0.7], [1.0, 2.0]])}],
    "two": [{name: ("float32", [number]) for name in "ab"} for number in (0.1, 0.2, 0.3)],
    "int64": [{"x": ("int64", [[-1, 2], [3, 1 << 62]])}, {"x": ("int64", [[5, 6]])}],
    "int32": [{"x": ("int32", [[-1, 2]])}, {"x": ("int32", [[300, 300]])}],
    "bool": [{"x": ("bool", [[True, False]])}, {"x": ("bool", [[False, False], [True, True]])}],
    "float64": [{"x": ("float64", [[0.1, 0.2]])}, {"x": ("float64", [[0.3, 0.3]])}],
    "int8": [{"x": ("int8", [[-1, 2]])}, {"x": ("int8", [[3, 4], [5, 6]])}],
    "uint8": [{"x": ("uint8", [[255, 2]])}, {"x": ("uint8", [[3, 4]])}],
    "string": [{"x": ("string", [["a", "é" * 100]])}, {"x": ("string", [["", "b"], ["c", "d"]])}],
}


@pytest.mark.parametrize("model", CALLS)
async def test_calls_get_what_they_get_alone(server: Running, tensorflow: TfClient, model: str) -> None:
    calls = CALLS[model]
    alone = [await tensorflow.predict(server.grpc, model, arrays, version=1) for arrays in calls]
    assert [reply.code for reply in alone] == [0] * len(calls), alone
    async with merging(server, len(calls)) as (target, merger):
        merged = await asyncio.gather(*(tensorflow.predict(target, model, arrays, version=1) for arrays in calls))
    assert [(reply.code, reply.details) for reply in merged] == [(0, "")] * len(calls)
    assert merger.rows == sorted(len(next(iter(arrays.values()))[1]) for arrays in calls)
    for one, other in zip(merged, alone, strict=True):
        assert one.arrays == other.arrays
        assert tfs.PredictResponse.FromString(one.response) == tfs.PredictResponse.FromString(other.response)
