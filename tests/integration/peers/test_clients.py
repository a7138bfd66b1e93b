"""Clients as people have them, unchanged: TensorFlow's and Triton's own, through Envoy and to the node directly."""

import json

import numpy as np
import pytest
import tritonclient.grpc.aio as v2_grpc
import tritonclient.http.aio as v2_rest
from tritonclient.utils import InferenceServerException

from integration.peers.tf_client import TfClient
from integration.stack import models
from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from mesh.protos import tfs_pb2
from tests.integration import calls
from tests.integration.conftest import owner

MODEL = "birch-svm"


@pytest.fixture
def node(nodes: dict[str, EmbeddedNode]) -> EmbeddedNode:
    return nodes[owner(MODEL)]


async def test_tensorflow_predicts(edge: Sidecar, node: EmbeddedNode, tensorflow: TfClient) -> None:
    arrays = {"image": ("float32", models.digits()[1].images[:100].tolist())}
    mesh = await tensorflow.predict(edge.target, MODEL, arrays)
    direct = await tensorflow.predict(node.grpc, MODEL, arrays)
    assert mesh.code == 0, mesh.details
    assert mesh.response == direct.response
    assert len(mesh.arrays["label"][1]) == 100
    assert ("x-tbms-upstream", node.node.grpc) in mesh.initial


@pytest.mark.parametrize("size", [1 << 20, 20 << 20], ids=["1MiB", "20MiB"])
async def test_tensorflow_sends_much(edge: Sidecar, node: EmbeddedNode, tensorflow: TfClient, size: int) -> None:
    request = calls.tfs_grpc(MODEL, calls.images(calls.rows_of(size), models.digits()[1].images)).message
    mesh = await tensorflow.call("Predict", edge.target, request)
    direct = await tensorflow.call("Predict", node.grpc, request)
    assert mesh.code == 0, mesh.details
    assert mesh.response == direct.response


async def test_tensorflow_reads_the_digits(edge: Sidecar, tensorflow: TfClient) -> None:
    held = models.digits()[1]
    reply = await tensorflow.predict(edge.target, MODEL, {"image": ("float32", held.images.tolist())}, version=1)
    assert (np.array(reply.arrays["label"][1]) == held.labels).mean() > 0.9


async def test_tensorflow_gets_the_errors_of_the_node(edge: Sidecar, node: EmbeddedNode, tensorflow: TfClient) -> None:
    for ask in ({"images": ("float32", [[0.0] * 64])}, {"image": ("float32", [[0.0] * 3])}, {}):
        mesh = await tensorflow.predict(edge.target, MODEL, ask)
        direct = await tensorflow.predict(node.grpc, MODEL, ask)
        assert mesh.code == 3
        assert (mesh.code, mesh.details) == (direct.code, direct.details)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetModelStatus", tfs_pb2.GetModelStatusRequest(model_spec=tfs_pb2.ModelSpec(name=MODEL))),
        (
            "GetModelMetadata",
            tfs_pb2.GetModelMetadataRequest(model_spec=tfs_pb2.ModelSpec(name=MODEL), metadata_field=["signature_def"]),
        ),
    ],
)
async def test_tensorflow_asks_about_a_model(
    edge: Sidecar, node: EmbeddedNode, tensorflow: TfClient, method: str, request_: tfs_pb2.GetModelStatusRequest
) -> None:
    mesh = await tensorflow.call(method, edge.target, request_)
    direct = await tensorflow.call(method, node.grpc, request_)
    assert mesh.code == 0, mesh.details
    assert mesh.response == direct.response


async def test_tritonclient_over_grpc(edge: Sidecar, node: EmbeddedNode) -> None:
    images = models.digits()[1].images
    tensor = v2_grpc.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    async with v2_grpc.InferenceServerClient(edge.target) as mesh, v2_grpc.InferenceServerClient(node.grpc) as direct:
        one, other = [await client.infer(MODEL, [tensor]) for client in (mesh, direct)]
        assert one.get_response() == other.get_response()
        assert await mesh.get_model_metadata(MODEL) == await direct.get_model_metadata(MODEL)
        assert await mesh.get_model_config(MODEL) == await direct.get_model_config(MODEL)
        assert await mesh.is_model_ready(MODEL)
        assert not await mesh.is_model_ready(MODEL, "77")
        errors = []
        for client in (mesh, direct):
            with pytest.raises(InferenceServerException) as caught:
                await client.infer(MODEL, [])
            errors.append((caught.value.status(), caught.value.message()))
        assert errors[0] == errors[1]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
async def test_tritonclient_over_http(edge: Sidecar, node: EmbeddedNode, binary: bool) -> None:
    images = models.digits()[1].images
    tensor = v2_rest.InferInput("image", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    outputs = [v2_rest.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities")]
    places = [place.removeprefix("http://") for place in (edge.http, node.rest)]
    async with v2_rest.InferenceServerClient(places[0]) as mesh, v2_rest.InferenceServerClient(places[1]) as direct:
        one, other = [await client.infer(MODEL, [tensor], outputs=outputs) for client in (mesh, direct)]
        assert json.dumps(one.get_response()) == json.dumps(other.get_response())
        np.testing.assert_array_equal(one.as_numpy("probabilities"), other.as_numpy("probabilities"))
        assert (one.as_numpy("label") == models.digits()[1].labels).mean() > 0.9
        assert await mesh.get_model_metadata(MODEL) == await direct.get_model_metadata(MODEL)
        assert await mesh.is_model_ready(MODEL)
