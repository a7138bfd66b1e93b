"""A real Triton behind Envoy and the server, called by its own client."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest
from tritonclient.utils import InferenceServerException

from integration.peers.triton import Triton, missing, triton, write_model
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from tests.integration.conftest import need_envoy

pytestmark = pytest.mark.triton

# One model is loaded, the other is only in the repository.
LOADED, ABSENT = "doubler", "sleeper"


@dataclass
class Behind:
    edge: Sidecar
    triton: Triton


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def a_triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Triton]:
    if reason := missing():
        pytest.skip(reason)
    repository = tmp_path_factory.mktemp("triton")
    for name in (LOADED, ABSENT):
        write_model(repository, name)
    async with triton(repository, load=[LOADED]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38"])
async def behind(
    request: pytest.FixtureRequest, a_triton: Triton, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Behind]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp(f"before-triton-{request.param}")
    node = Node("triton", grpc=a_triton.grpc, rest=a_triton.rest)
    async with Sidecar(folder, [node], envoy=request.param) as edge:
        yield Behind(edge, a_triton)


VALUES = np.array([[1, 2], [3, 4]], dtype=np.float32)


async def test_grpc(behind: Behind) -> None:
    tensor = v2_grpc.InferInput("x", [2, 2], "FP32")
    tensor.set_data_from_numpy(VALUES)
    edge, direct = v2_grpc.InferenceServerClient(behind.edge.target), v2_grpc.InferenceServerClient(behind.triton.grpc)
    async with edge, direct:
        one, other = [await client.infer(LOADED, [tensor]) for client in (edge, direct)]
        np.testing.assert_array_equal(one.as_numpy("y"), 2 * VALUES)
        assert one.get_response() == other.get_response()
        assert await edge.is_model_ready(LOADED)
        assert not await edge.is_model_ready(ABSENT)
        assert await edge.get_model_metadata(LOADED) == await direct.get_model_metadata(LOADED)
        assert await edge.get_model_config(LOADED) == await direct.get_model_config(LOADED)
        assert await edge.is_server_live()
        errors = []
        for client in (edge, direct):
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(ABSENT, [tensor])
            errors.append((caught.value.status(), caught.value.message()))
        assert errors[0] == errors[1]


async def test_http(behind: Behind) -> None:
    tensor = v2_rest.InferInput("x", [2, 2], "FP32")
    tensor.set_data_from_numpy(VALUES)
    edge = v2_rest.InferenceServerClient(behind.edge.target)
    direct = v2_rest.InferenceServerClient(behind.triton.rest)
    async with edge, direct:
        one, other = [await client.infer(LOADED, [tensor]) for client in (edge, direct)]
        np.testing.assert_array_equal(one.as_numpy("y"), 2 * VALUES)
        assert one.get_response() == other.get_response()
        assert await edge.is_model_ready(LOADED)
        assert not await edge.is_model_ready(ABSENT)
        assert await edge.get_model_metadata(LOADED) == await direct.get_model_metadata(LOADED)
        errors = []
        for client in (edge, direct):
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(ABSENT, [tensor])
            errors.append((caught.value.status(), caught.value.message()))
        assert errors[0] == errors[1]


async def test_a_large_call(behind: Behind) -> None:
    values = np.zeros((8, 2), dtype=np.float32)
    tensor = v2_grpc.InferInput("x", [8, 2], "FP32")
    tensor.set_data_from_numpy(values)
    async with v2_grpc.InferenceServerClient(behind.edge.target) as client:
        result = await client.infer(LOADED, [tensor], request_id="r" * (20 << 20))
        assert len(result.get_response().id) == 20 << 20


async def test_repository_control_is_not_open_to_clients(behind: Behind) -> None:
    async with v2_grpc.InferenceServerClient(behind.edge.target) as client:
        with pytest.raises(InferenceServerException, match="repository control"):
            await client.load_model(ABSENT)
    async with v2_rest.InferenceServerClient(behind.edge.target) as client:
        with pytest.raises(InferenceServerException, match="repository control"):
            await client.unload_model(LOADED)
        assert await client.is_model_ready(LOADED)
