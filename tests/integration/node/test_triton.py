"""A node before a real Triton in explicit mode, with its Python backend, called by its own clients."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest
from tritonclient.utils import InferenceServerException

from integration.peers.triton import DOUBLING, DOUBLING_CONFIG, missing, triton, write_model
from integration.stack.cached_node import CachedNode, CachedSpec, Served

pytestmark = pytest.mark.triton

VALUES = np.array([[1, 2], [3, 4]], dtype=np.float32)
BROKEN = DOUBLING.replace(
    "class TritonPythonModel:",
    "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('weights of another model')\n",
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CachedNode]:
    if reason := missing():
        pytest.skip(reason)
    shelf, folder = tmp_path_factory.mktemp("shelf"), tmp_path_factory.mktemp("node")
    for name in ("a", "b"):
        write_model(shelf, name)
    write_model(shelf, "broken", DOUBLING_CONFIG, BROKEN)
    models = folder / "cache" / "models"
    models.mkdir(parents=True)
    async with triton(models, completes=True) as server:
        spec = CachedSpec("node", cache={"capacity": {"models": 1}, "room_seconds": 30})
        async with CachedNode(spec, shelf, folder, Served(server.grpc, server.rest)) as running:
            yield running


def tensor(library: Any) -> Any:
    made = library.InferInput("x", [2, 2], "FP32")
    made.set_data_from_numpy(VALUES)
    return made


async def test_models_come_and_go(node: CachedNode) -> None:
    async with (
        v2_grpc.InferenceServerClient(node.agent.target) as over_grpc,
        v2_rest.InferenceServerClient(node.agent.target) as over_rest,
        v2_rest.InferenceServerClient(node.served.rest) as direct,
    ):
        for model, client, library in (("a", over_grpc, v2_grpc), ("b", over_rest, v2_rest)):
            result = await client.infer(model, [tensor(library)])
            np.testing.assert_array_equal(result.as_numpy("y"), 2 * VALUES)
            states = await node.states()
            assert [key for key, state in states.items() if state == "available"] == [f"{model}:1"]
        index = await direct.get_model_repository_index()
        assert [each["name"] for each in index if each.get("state") == "READY"] == ["b"]
        assert await over_grpc.is_model_ready("a"), "to ask brings it"
        assert (await over_rest.get_model_metadata("a"))["name"] == "a"


async def test_a_model_that_does_not_load(node: CachedNode) -> None:
    for library in (v2_grpc, v2_rest):
        async with library.InferenceServerClient(node.agent.target) as client:
            with pytest.raises(InferenceServerException, match="weights of another model"):
                await client.infer("broken", [tensor(library)])
            assert not await client.is_model_ready("broken")
            with pytest.raises(InferenceServerException, match="No store has a model"):
                await client.infer("nobody", [tensor(library)])
            assert not await client.is_model_ready("nobody")
