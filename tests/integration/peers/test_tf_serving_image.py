"""TensorFlow's own server behind Envoy and tbms, where there is a container engine to run its image."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.container import DockerContainer

from integration.peers import tf_client
from integration.stack.process import answers
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from mesh.protos import tfs_pb2
from tests.integration import calls
from tests.integration.conftest import need_engine
from tests.integration.raw import channel, rest, rest_client, unary

pytestmark = pytest.mark.docker

IMAGE = "tensorflow/serving:2.19.0"
MODEL = "half_plus_two"
# TensorFlow itself writes the model that its documentation uses as the example: x / 2 + 2.
EXPORT = """
import sys, tensorflow as tf
class HalfPlusTwo(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def __call__(self, x):
        return {"y": x / 2 + 2}
model = HalfPlusTwo()
tf.saved_model.save(model, sys.argv[1], signatures=model.__call__)
"""


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := tf_client.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(MODEL)
    folder.chmod(0o755)
    subprocess.run([tf_client.PYTHON, "-c", EXPORT, folder / "1"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tf_serving(request: pytest.FixtureRequest) -> Iterator[Node]:
    need_engine()
    folder = request.getfixturevalue("saved_model")
    container = DockerContainer(IMAGE).with_exposed_ports(8500, 8501).with_env("MODEL_NAME", MODEL)
    with container.with_volume_mapping(str(folder), f"/models/{MODEL}", "ro") as running:
        host = running.get_container_host_ip().replace("localhost", "127.0.0.1")
        grpc_port, rest_port = (running.get_exposed_port(port) for port in (8500, 8501))
        yield Node("tf-serving", grpc=f"{host}:{grpc_port}", rest=f"{host}:{rest_port}")


async def test_its_replies_come_through_unchanged(
    tf_serving: Node, tmp_path: Path, tensorflow: tf_client.TfClient
) -> None:
    ready = answers(f"http://{tf_serving.rest}/v1/models/{MODEL}")
    async with asyncio.timeout(60):
        while not await ready():
            await asyncio.sleep(0.1)
    async with Sidecar(tmp_path, [tf_serving]) as edge:
        mesh, direct = rest_client(edge.http), rest_client(f"http://{tf_serving.rest}")
        async with mesh, direct:
            for path, body in (
                (f"/v1/models/{MODEL}", None),
                (f"/v1/models/{MODEL}/metadata", None),
                (f"/v1/models/{MODEL}:predict", b'{"instances": [1.0, 2.0]}'),
                (f"/v1/models/{MODEL}:predict", b"{}"),
                ("/v1/models/unknown:predict", b'{"instances": [1.0]}'),
            ):
                one, other = await rest(mesh, path, body), await rest(direct, path, body)
                assert (one.status, one.headers, one.body) == (other.status, other.headers, other.body)
        one, other = [
            await tensorflow.predict(target, MODEL, {"x": ("float32", [1.0, 2.0])})
            for target in (edge.target, tf_serving.grpc)
        ]
        assert (one.code, one.response) == (0, other.response)
        unknown = tfs_pb2.PredictRequest(model_spec=tfs_pb2.ModelSpec(name="unknown")).SerializeToString()
        async with channel(edge.target) as through, channel(tf_serving.grpc) as beside:
            errors = [await unary(way, calls.TFS_PREDICT, unknown) for way in (through, beside)]
        assert (errors[0].code, errors[0].details) == (errors[1].code, errors[1].details)
        assert errors[0].code == "NOT_FOUND"
