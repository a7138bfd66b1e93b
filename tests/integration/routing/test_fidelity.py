"""A reply through Envoy and the server is, byte for byte, the reply of the node: body, status, headers and trailers."""

import dataclasses
from collections.abc import AsyncIterator, Callable

import grpc
import numpy as np
import pytest
import pytest_asyncio

from integration.stack import models
from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from mesh.protos import tfs_pb2
from tests.integration import calls
from tests.integration.conftest import owner
from tests.integration.raw import GrpcReply, RestReply, channel, rest, rest_client, unary

MODEL = "acme-bayes"
SIZES = {"1KiB": 1 << 10, "1MiB": 1 << 20, "20MiB": 20 << 20}
sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
http_versions = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


def digits(size: int) -> np.ndarray:
    return calls.images(calls.rows_of(size), models.digits()[1].images)


class Rest:
    """Makes the same call twice: through Envoy, and directly to the node that the call went to."""

    def __init__(self, edge: Sidecar, node: EmbeddedNode, http2: bool) -> None:
        self._mesh, self._direct = rest_client(edge.http, http2=http2), rest_client(node.rest)
        self._node = node

    async def both(self, call: calls.Rest) -> tuple[RestReply, RestReply]:
        mesh = await rest(self._mesh, call.path, call.body, call.headers)
        direct = await rest(self._direct, call.path, call.body, call.headers)
        assert mesh.upstream == self._node.node.rest
        return dataclasses.replace(mesh, upstream=None), direct

    async def close(self) -> None:
        await self._mesh.aclose()
        await self._direct.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def over_rest(edge: Sidecar, nodes: dict[str, EmbeddedNode], http2: bool) -> AsyncIterator[Rest]:
    pair = Rest(edge, nodes[owner(MODEL)], http2)
    yield pair
    await pair.close()


@http_versions
@pytest.mark.parametrize(
    ("write", "size"),
    [
        (calls.tfs_rest, SIZES["1KiB"]),
        (calls.tfs_rest, SIZES["1MiB"]),
        *((calls.v2_rest, size) for size in SIZES.values()),
    ],
    ids=["tfs-1KiB", "tfs-1MiB", *(f"v2-{name}" for name in SIZES)],
)
async def test_rest_predictions(over_rest: Rest, write: Callable[..., calls.Rest], size: int) -> None:
    mesh, direct = await over_rest.both(write(MODEL, digits(size)))
    assert mesh.status == 200
    assert mesh == direct


@http_versions
@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/v1/models/{MODEL}", 200),
        (f"/v1/models/{MODEL}/versions/1", 200),
        (f"/v1/models/{MODEL}/metadata", 200),
        (f"/v2/models/{MODEL}", 200),
        (f"/v2/models/{MODEL}/ready", 200),
        (f"/v2/models/{MODEL}/versions/1/ready", 200),
        (f"/v2/models/{MODEL}/config", 200),
        (f"/v1/models/{MODEL}/versions/77", 404),
        (f"/v2/models/{MODEL}/versions/77/ready", 400),
    ],
)
async def test_rest_questions_without_a_body(over_rest: Rest, path: str, status: int) -> None:
    mesh, direct = await over_rest.both(calls.Rest(path, None, {}))
    assert mesh == direct
    assert mesh.status == status


@http_versions
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/v1/models/{MODEL}:predict", b"", 400),
        (f"/v1/models/{MODEL}:predict", b"not json", 400),
        (f"/v1/models/{MODEL}:predict", b'{"instances": [[1, 2]]}', 400),
        (f"/v1/models/{MODEL}/versions/77:predict", b'{"instances": [[1, 2]]}', 404),
        # Triton takes a body without a JSON head for the raw bytes of the one input: none here, so no rows.
        (f"/v2/models/{MODEL}/infer", b"", 200),
        (f"/v2/models/{MODEL}/infer", b'{"inputs": []}', 400),
        (f"/v2/models/{MODEL}/infer", b'{"inputs": [{"name": "image", "shape": [1], "datatype": "FP32"}]}', 400),
    ],
)
async def test_rest_bodies_that_are_wrong_or_empty(over_rest: Rest, path: str, body: bytes, status: int) -> None:
    mesh, direct = await over_rest.both(calls.Rest(path, body, {"content-type": "application/json"}))
    assert mesh == direct
    assert mesh.status == status
    assert (b"error" in mesh.body) == (status != 200)


@http_versions
async def test_a_body_of_unknown_length(over_rest: Rest) -> None:
    call = calls.v2_rest(MODEL, digits(1 << 20))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(call.body), 50_000):
            yield call.body[start : start + 50_000]

    mesh = await rest(over_rest._mesh, call.path, chunks(), call.headers)
    direct = await rest(over_rest._direct, call.path, call.body, call.headers)
    assert (mesh.status, mesh.body) == (200, direct.body)


class Grpc:
    """Makes the same call twice: through Envoy, and directly to the node that the call went to."""

    def __init__(self, edge: Sidecar, node: EmbeddedNode) -> None:
        self._mesh, self._direct = channel(edge.target), channel(node.grpc)
        self._node = node

    async def both(self, call: calls.Grpc, compression: grpc.Compression | None = None) -> tuple[GrpcReply, GrpcReply]:
        mesh = await unary(self._mesh, call.method, call.message, compression=compression)
        direct = await unary(self._direct, call.method, call.message, compression=compression)
        assert mesh.upstream == self._node.node.grpc
        return dataclasses.replace(mesh, upstream=None), direct

    async def close(self) -> None:
        await self._mesh.close()
        await self._direct.close()


@pytest_asyncio.fixture(loop_scope="session")
async def over_grpc(edge: Sidecar, nodes: dict[str, EmbeddedNode]) -> AsyncIterator[Grpc]:
    pair = Grpc(edge, nodes[owner(MODEL)])
    yield pair
    await pair.close()


@sizes
@pytest.mark.parametrize("write", [calls.tfs_grpc, calls.v2_grpc], ids=["tfs", "v2"])
async def test_grpc_predictions(over_grpc: Grpc, write: Callable[..., calls.Grpc], size: int) -> None:
    mesh, direct = await over_grpc.both(write(MODEL, digits(size)))
    assert mesh.code == "OK"
    assert mesh == direct


@pytest.mark.parametrize("write", [calls.tfs_grpc, calls.v2_grpc], ids=["tfs", "v2"])
async def test_compressed_grpc_predictions(over_grpc: Grpc, write: Callable[..., calls.Grpc]) -> None:
    mesh, direct = await over_grpc.both(write(MODEL, digits(1 << 20)), grpc.Compression.Gzip)
    assert mesh.code == "OK"
    assert mesh == direct


async def test_the_model_may_be_named_last(over_grpc: Grpc) -> None:
    whole = tfs_pb2.PredictRequest.FromString(calls.tfs_grpc(MODEL, digits(4 << 20)).message)
    spec = tfs_pb2.PredictRequest(model_spec=whole.model_spec).SerializeToString()
    whole.ClearField("model_spec")
    mesh, direct = await over_grpc.both(calls.Grpc(calls.TFS_PREDICT, whole.SerializeToString() + spec))
    assert mesh.code == "OK"
    assert mesh == direct


def _spec(**fields: object) -> tfs_pb2.ModelSpec:
    return tfs_pb2.ModelSpec(name=MODEL, **fields)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (calls.Grpc(calls.TFS_STATUS, tfs_pb2.GetModelStatusRequest(model_spec=_spec()).SerializeToString()), "OK"),
        (
            calls.Grpc(
                calls.TFS_METADATA,
                tfs_pb2.GetModelMetadataRequest(
                    model_spec=_spec(), metadata_field=["signature_def"]
                ).SerializeToString(),
            ),
            "OK",
        ),
        (
            calls.Grpc(calls.TFS_PREDICT, tfs_pb2.PredictRequest(model_spec=_spec()).SerializeToString()),
            "INVALID_ARGUMENT",
        ),
        (
            calls.Grpc(
                calls.TFS_PREDICT,
                tfs_pb2.PredictRequest(model_spec=_spec(signature_name="none such")).SerializeToString(),
            ),
            "FAILED_PRECONDITION",
        ),
    ],
    ids=["status", "metadata", "no input", "unknown signature"],
)
async def test_other_grpc_calls_and_errors(over_grpc: Grpc, call: calls.Grpc, code: str) -> None:
    mesh, direct = await over_grpc.both(call)
    assert mesh == direct
    assert mesh.code == code
    assert bool(mesh.details) == (code != "OK")
