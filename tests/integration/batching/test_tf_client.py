"""What TensorFlow's own client sends is merged, and what it gets of a cut reply it reads as if it were alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from onnx import TensorProto

from ext_proc.wire.call import InferenceProtocol
from integration.peers.tf_client import TfClient
from mesh.protos import tfs_pb2 as tfs
from tests.integration.batching.asking import METHODS, call_of
from tests.integration.batching.merging import merging
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running

CALL = call_of(InferenceProtocol.TFS_GRPC, "m")


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
    async with merging(server.grpc, CALL, METHODS[CALL.protocol], len(calls)) as (target, merger):
        merged = await asyncio.gather(*(tensorflow.predict(target, model, arrays, version=1) for arrays in calls))
    assert [(reply.code, reply.details) for reply in merged] == [(0, "")] * len(calls)
    assert merger.rows == sorted(len(next(iter(arrays.values()))[1]) for arrays in calls)
    for one, other in zip(merged, alone, strict=True):
        assert one.arrays == other.arrays
        assert tfs.PredictResponse.FromString(one.response) == tfs.PredictResponse.FromString(other.response)
