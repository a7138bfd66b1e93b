"""TensorFlow's own client against the embedded server: what it sends is understood, what it gets it can read."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.peers.tf_client import TfClient
from mesh.protos import tfs_pb2 as tfs
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    repository = tmp_path_factory.mktemp("repository")
    graphs.scaling(repository / "m" / "1", 2)
    graphs.two(repository / "two" / "1")
    async with running(repository) as made:
        yield made


@pytest.mark.parametrize("values", [[[1.0, 2.0]], [[1.0, 1.0]], [[float(i), -1.0] for i in range(500)]])
async def test_predict(server: Running, tensorflow: TfClient, values: list[list[float]]) -> None:
    reply = await tensorflow.predict(server.grpc, "m", {"x": ("float32", values)}, version=1)
    assert (reply.code, reply.arrays) == (0, {"y": ("float32", [[2 * a, 2 * b] for a, b in values])})


async def test_predict_with_two_outputs(server: Running, tensorflow: TfClient) -> None:
    reply = await tensorflow.predict(server.grpc, "two", {"a": ("float32", [3.0]), "b": ("float32", [1.0])})
    assert reply.arrays == {"difference": ("float32", [2.0]), "sum": ("float32", [4.0])}


async def test_refusals(server: Running, tensorflow: TfClient) -> None:
    reply = await tensorflow.predict(server.grpc, "no", {"x": ("float32", [[1.0, 2.0]])})
    assert (reply.code, reply.details) == (5, "Servable not found for request: Latest(no)")
    reply = await tensorflow.predict(server.grpc, "m", {"x": ("float64", [[1.0, 2.0]])})
    assert (reply.code, reply.details) == (3, "Expects arg[0] to be float but double is provided")
    for method, request in (
        ("Classify", tfs.ClassificationRequest(model_spec=tfs.ModelSpec(name="m"))),
        ("Regress", tfs.RegressionRequest(model_spec=tfs.ModelSpec(name="m"))),
        ("MultiInference", tfs.MultiInferenceRequest(tasks=[tfs.InferenceTask(model_spec=tfs.ModelSpec(name="m"))])),
    ):
        assert (await tensorflow.call(method, server.grpc, request)).code in (3, 12)


async def test_status_and_metadata(server: Running, tensorflow: TfClient) -> None:
    spec = tfs.ModelSpec(name="m")
    reply = await tensorflow.call("GetModelStatus", server.grpc, tfs.GetModelStatusRequest(model_spec=spec))
    status = tfs.GetModelStatusResponse.FromString(reply.response)
    assert [(each.version, each.state) for each in status.model_version_status] == [(1, 30)]
    request = tfs.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    reply = await tensorflow.call("GetModelMetadata", server.grpc, request)
    metadata = tfs.GetModelMetadataResponse.FromString(reply.response)
    assert metadata.metadata["signature_def"].type_url.endswith("/tensorflow.serving.SignatureDefMap")
