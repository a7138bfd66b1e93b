"""The V2 APIs, called by Triton's own clients. What they refuse is compared with a real Triton in tests/integration."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest
from tritonclient.utils import InferenceServerException

from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running

ROWS = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    graphs.scaling(tmp_path / "m" / "1")
    graphs.echo(tmp_path / "text" / "1", onnx.TensorProto.STRING)
    graphs.scaling(tmp_path / "cold" / "3")
    graphs.failing(tmp_path / "failing" / "1")
    (tmp_path / "m" / "tbms.json").write_text('{"memory_bytes": 4096}')
    async with running(tmp_path, load=("m", "text", "failing")) as made:
        yield made


async def test_grpc(server: Running) -> None:
    async with v2_grpc.InferenceServerClient(server.grpc) as client:
        assert await client.is_server_ready()
        tensor = v2_grpc.InferInput("x", [2, 2], "FP32")
        tensor.set_data_from_numpy(ROWS)
        result = await client.infer("m", [tensor], request_id="7", outputs=[v2_grpc.InferRequestedOutput("y")])
        assert result.as_numpy("y").tolist() == (ROWS * 2).tolist()
        assert result.get_response().id == "7"
        statistics = await client.get_inference_statistics("m", as_json=True)
        (model,) = statistics["model_stats"]
        assert (model["inference_count"], model["inference_stats"]["success"]["count"]) == ("1", "1")
        assert model["memory_usage"] == [{"type": "CPU", "byte_size": "4096"}]
        await client.load_model("cold")
        assert await client.is_model_ready("cold", "3")
        await client.unload_model("cold")
        assert not await client.is_model_ready("cold")
        index = {each.name: each for each in (await client.get_model_repository_index()).models}
        assert (index["cold"].state, index["cold"].reason) == ("UNAVAILABLE", "unloaded")


@pytest.mark.parametrize("binary", [True, False])
async def test_rest(server: Running, binary: bool) -> None:
    async with v2_rest.InferenceServerClient(server.rest) as client:
        tensor = v2_rest.InferInput("x", [2, 2], "FP32")
        tensor.set_data_from_numpy(ROWS, binary_data=binary)
        asked = v2_rest.InferRequestedOutput("y", binary_data=binary)
        for compression in (None, "gzip", "deflate"):
            result = await client.infer(
                "m",
                [tensor],
                outputs=[asked],
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )
            assert result.as_numpy("y").tolist() == (ROWS * 2).tolist()
        await client.load_model("cold")
        assert await client.is_model_ready("cold")
        await client.unload_model("cold")
        assert not await client.is_model_ready("cold")
        assert (await client.get_model_config("m"))["max_batch_size"] == 0
        assert (await client.get_model_metadata("m"))["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


async def test_strings(server: Running) -> None:
    texts = np.array([b"one", "é".encode()], object)
    async with v2_grpc.InferenceServerClient(server.grpc) as client:
        tensor = v2_grpc.InferInput("x", [2], "BYTES")
        tensor.set_data_from_numpy(texts)
        assert (await client.infer("text", [tensor])).as_numpy("y").tolist() == texts.tolist()
    async with v2_rest.InferenceServerClient(server.rest) as rest:
        given = v2_rest.InferInput("x", [2], "BYTES")
        given.set_data_from_numpy(texts)
        assert (await rest.infer("text", [given])).as_numpy("y").tolist() == texts.tolist()


async def test_a_run_that_fails_is_internal(server: Running) -> None:
    async with v2_grpc.InferenceServerClient(server.grpc) as client:
        tensor = v2_grpc.InferInput("x", [3], "FP32")
        tensor.set_data_from_numpy(np.ones(3, np.float32))
        with pytest.raises(InferenceServerException, match="onnx runtime error") as caught:
            await client.infer("failing", [tensor])
    assert caught.value.status() == "StatusCode.INTERNAL"


async def test_loads_with_parameters_are_refused(server: Running) -> None:
    async with v2_grpc.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException, match="load parameter 'config' is not supported"):
            await client.load_model("cold", config='{"max_batch_size": 2}')
        with pytest.raises(InferenceServerException, match="load parameter 'file:1/model' is not supported"):
            await client.load_model("cold", config='{"version_policy": {"all": {}}}', files={"file:1/model": b"x"})
        anothers = '{"name": "m", "version_policy": {"all": {}}}'
        for config, why in (("[", "cannot be read"), (anothers, "config of model 'm'")):
            with pytest.raises(InferenceServerException, match=why):
                await client.load_model("cold", config=config)


@pytest.mark.parametrize("api", ["grpc", "rest"])
async def test_a_load_may_say_which_versions_are_served(server: Running, tmp_path: Path, api: str) -> None:
    graphs.scaling(tmp_path / "cold" / "4")
    graphs.scaling(tmp_path / "cold" / "5")
    made = v2_grpc.InferenceServerClient(server.grpc) if api == "grpc" else v2_rest.InferenceServerClient(server.rest)
    async with made as client:
        for policy, served in (
            ('{"specific": {"versions": [3, 5]}}', {"3", "5"}),
            ('{"all": {}}', {"3", "4", "5"}),
            ('{"latest": {"num_versions": 2}}', {"4", "5"}),
            ('{"specific": {"versions": [3]}}', {"3"}),
        ):
            await client.load_model("cold", config=f'{{"name": "cold", "version_policy": {policy}}}')
            ready = {each for each in ("3", "4", "5") if await client.is_model_ready("cold", each)}
            assert ready == served
        await client.load_model("cold")  # it keeps what it was told, as Triton does while its files are the same
        assert await client.is_model_ready("cold", "3")
        assert not await client.is_model_ready("cold", "5")
