"""One node before a real model server: what comes, what goes, which version, and what is told when it cannot be."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as v2_grpc
from tritonclient.utils import InferenceServerException

from integration.stack.cached_node import CachedNode, CachedSpec, Served
from mesh.protos import tfs_pb2
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import until, write_onnx
from tests.integration.raw import GrpcReply, channel, rest_client, unary
from tests.mesh.model_cache.stores.scripted_s3 import fixed_reply

LABELS = {"labelled": {"stable": 1}}
TFS_BODY = b'{"instances": [[1.0, 2.0]]}'
V2_BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}).encode()
HUGE = 3_000_000


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that multiply by their version + 1."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("a", "b", "c", "quick", "labelled", "numbered", "candidate", "ready", "asked"):
        write_onnx(folder, name)
    for name in ("labelled", "numbered", "candidate"):
        write_onnx(folder, name, 2, factor=3.0)
    write_onnx(folder, "slow")
    (folder / "slow" / "tbms.json").write_text(json.dumps({"load_delay_ms": 1500}))
    for name, content in {"corrupt": b"no graph at all", "huge": b"0" * HUGE}.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.onnx").write_bytes(content)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38"])
async def node(
    request: pytest.FixtureRequest, shelf: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CachedNode]:
    need_envoy(request.param)
    cache = {
        "capacity": {"models": 3, "disk_bytes": 1_000_000},
        "room_seconds": 30,
        "labels": LABELS,
        "loader": {"api": "tf-serving"},
    }
    spec = CachedSpec("node", cache=cache, envoy=request.param)
    async with CachedNode(spec, shelf, tmp_path_factory.mktemp(f"node-{request.param}")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def http(node: CachedNode) -> AsyncIterator[httpx.AsyncClient]:
    async with rest_client(node.agent.http) as client:
        yield client


def spec_of(model: str, version: int | None = None, label: str | None = None) -> tfs_pb2.ModelSpec:
    spec = tfs_pb2.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


async def predict(node: CachedNode, model: str, version: int | None = None, label: str | None = None) -> Any:
    """`y` of TF Serving's Predict for x = [1, 2], or the refusal."""
    request = tfs_pb2.PredictRequest(model_spec=spec_of(model, version, label))
    tensor = request.inputs["x"]
    tensor.dtype = tfs_pb2.DT_FLOAT
    tensor.tensor_content = np.array([[1, 2]], dtype=np.float32).tobytes()
    for size in (1, 2):
        tensor.tensor_shape.dim.add(size=size)
    async with channel(node.agent.target) as through:
        reply = await unary(through, calls.TFS_PREDICT, request.SerializeToString())
    if reply.code != "OK":
        return reply
    output = tfs_pb2.PredictResponse.FromString(reply.message).outputs["y"]
    return list(output.float_val) or np.frombuffer(output.tensor_content, np.float32).tolist()


async def infer(node: CachedNode, model: str, version: str = "") -> Any:
    """`y` of V2's ModelInfer for x = [1, 2]."""
    tensor = v2_grpc.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2]], dtype=np.float32))
    async with v2_grpc.InferenceServerClient(node.agent.target) as client:
        return (await client.infer(model, [tensor], model_version=version)).as_numpy("y")[0].tolist()


async def tfs_rest(http: httpx.AsyncClient, model: str, which: str = "") -> Any:
    """`y` of TF Serving's REST API, or status and error."""
    reply = await http.post(f"/v1/models/{model}{which}:predict", content=TFS_BODY)
    document = reply.json()
    return document["predictions"][0] if reply.status_code == 200 else (reply.status_code, document["error"])


async def v2_rest(http: httpx.AsyncClient, model: str, which: str = "") -> Any:
    """`y` of V2's REST API, or status and error."""
    reply = await http.post(f"/v2/models/{model}{which}/infer", content=V2_BODY)
    document = reply.json()
    return document["outputs"][0]["data"] if reply.status_code == 200 else (reply.status_code, document["error"])


# Which version.


async def test_versions_labels_and_latest(node: CachedNode, http: httpx.AsyncClient) -> None:
    first, second = [2.0, 4.0], [3.0, 6.0]
    assert await predict(node, "labelled", label="stable") == first
    assert await tfs_rest(http, "labelled", "/labels/stable") == first
    assert await predict(node, "labelled") == second
    assert await predict(node, "labelled", version=1) == first
    assert await predict(node, "labelled", version=2) == second
    assert await predict(node, "labelled", label="latest") == second
    assert await tfs_rest(http, "labelled") == second
    assert await tfs_rest(http, "labelled", "/versions/1") == first
    assert await tfs_rest(http, "labelled", "/labels/latest") == second
    assert await v2_rest(http, "labelled") == second
    assert await v2_rest(http, "labelled", "/versions/1") == first
    assert await infer(node, "labelled") == second
    assert await infer(node, "labelled", "1") == first


async def test_the_newest_version_comes_where_none_is_named(node: CachedNode, http: httpx.AsyncClient) -> None:
    assert await v2_rest(http, "numbered") == [3.0, 6.0]
    assert {key for key in await node.states() if key.startswith("numbered")} == {"numbered:2"}
    assert await infer(node, "numbered", "1") == [2.0, 4.0]


async def test_the_model_header_brings_the_version_that_it_names(node: CachedNode, http: httpx.AsyncClient) -> None:
    request = tfs_pb2.GetModelMetadataRequest(model_spec=spec_of("candidate", 1), metadata_field=["signature_def"])
    async with channel(node.agent.target) as through:
        metadata = [("x-tbms-model", "candidate/versions/1")]
        reply = await unary(through, calls.TFS_METADATA, request.SerializeToString(), metadata)
    assert reply.code == "OK"
    assert {key for key in await node.states() if key.startswith("candidate")} == {"candidate:1"}


async def test_versions_that_do_not_exist(node: CachedNode, http: httpx.AsyncClient) -> None:
    no_version = "Model 'numbered' has no version 7."
    assert await tfs_rest(http, "numbered", "/versions/7") == (404, no_version)
    assert await v2_rest(http, "numbered", "/versions/7") == (404, no_version)
    reply = await predict(node, "numbered", version=7)
    assert (reply.code, reply.details) == ("NOT_FOUND", no_version)
    status, error = await tfs_rest(http, "numbered", "/labels/none")
    assert (status, error) == (404, "Model 'numbered' has no version with the label 'none'.")


# What comes and goes.


async def test_the_least_recently_used_model_goes(node: CachedNode, http: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c", "a", "quick"):
        assert await v2_rest(http, name) == [2.0, 4.0]
    available = {key for key, state in (await node.states()).items() if state == "available"}
    assert available == {"a:1", "c:1", "quick:1"}
    async with httpx.AsyncClient(base_url=f"http://{node.served.rest}", trust_env=False) as direct:
        assert (await direct.post("/v2/models/b/infer", content=V2_BODY)).status_code != 200
    assert await infer(node, "b") == [2.0, 4.0]


async def test_other_models_never_wait_for_a_slow_load(node: CachedNode, http: httpx.AsyncClient) -> None:
    assert await v2_rest(http, "quick") == [2.0, 4.0]
    slow = [asyncio.create_task(v2_rest(http, "slow")), asyncio.create_task(predict(node, "slow"))]

    async def is_loading() -> bool:
        return (await node.states()).get("slow:1") == "loading"

    await until(is_loading)
    assert await v2_rest(http, "quick") == [2.0, 4.0]
    assert await predict(node, "quick") == [2.0, 4.0]
    assert not any(call.done() for call in slow)
    assert await asyncio.gather(*slow) == [[2.0, 4.0], [2.0, 4.0]]


async def test_the_metrics_count_models_by_state(node: CachedNode, http: httpx.AsyncClient) -> None:
    assert await v2_rest(http, "quick") == [2.0, 4.0]
    async with httpx.AsyncClient(trust_env=False) as admin:
        lines = (await admin.get(f"{node.agent.admin}/metrics")).text.splitlines()
    states = list((await node.states()).values())
    assert f'tbms_cache_models{{state="available"}} {states.count("available")}.0' in lines
    assert "tbms_cache_in_flight 0.0" in lines


async def test_readiness_and_metadata_bring_a_model_and_status_does_not(
    node: CachedNode, http: httpx.AsyncClient
) -> None:
    assert (await http.get("/v1/models/asked")).status_code == 404
    assert (await http.get("/v2/models/asked/stats")).status_code == 400
    assert "asked:1" not in await node.states()
    assert (await http.get("/v2/models/ready/ready")).status_code == 200
    assert (await http.get("/v2/models/asked/config")).status_code == 200
    assert (await http.get("/v1/models/asked")).status_code == 200
    async with channel(node.agent.target) as through:
        request = tfs_pb2.GetModelMetadataRequest(model_spec=spec_of("a"), metadata_field=["signature_def"])
        assert (await unary(through, calls.TFS_METADATA, request.SerializeToString())).code == "OK"


# What cannot be had.


async def test_a_missing_model(node: CachedNode, http: httpx.AsyncClient) -> None:
    error = "No store has a model 'nobody'."
    assert await tfs_rest(http, "nobody") == (404, error)
    assert await v2_rest(http, "nobody") == (404, error)
    reply = await predict(node, "nobody")
    assert (reply.code, reply.details) == ("NOT_FOUND", error)
    with pytest.raises(InferenceServerException, match="No store has a model 'nobody'"):
        await infer(node, "nobody")


async def test_a_name_that_no_store_allows(node: CachedNode, http: httpx.AsyncClient) -> None:
    for path in ("/v2/models/..%2F..%2Fetc/infer", "/v1/models/%2E%2E:predict"):
        reply = await http.request("POST", "/", content=V2_BODY, extensions={"target": path.encode()})
        assert reply.status_code == 400, path
        assert "error" in reply.json()
    assert (await predict(node, "../../etc")).code == "INVALID_ARGUMENT"


async def test_a_model_larger_than_the_node(node: CachedNode, http: httpx.AsyncClient) -> None:
    sizes = "it takes 2.861 MiB of disk, and the node has 976.6 KiB"
    for status, error in (await tfs_rest(http, "huge"), await v2_rest(http, "huge")):
        assert status == 507
        assert sizes in error
    reply: GrpcReply = await predict(node, "huge")
    assert reply.code == "RESOURCE_EXHAUSTED"
    assert sizes in reply.details


async def test_a_corrupt_model(node: CachedNode, http: httpx.AsyncClient) -> None:
    for status, error in (await tfs_rest(http, "corrupt"), await v2_rest(http, "corrupt")):
        assert status == 424
        assert "Model 'corrupt' does not load" in error
        assert "Protobuf parsing failed" in error
    reply: GrpcReply = await predict(node, "corrupt")
    assert reply.code == "FAILED_PRECONDITION"
    assert "Protobuf parsing failed" in reply.details
    (book,) = [book for book in await node.books() if book["model"] == "corrupt"]
    assert book["state"] == "failed"
    assert "Protobuf parsing failed" in book["cause"]
    assert book["retry_seconds"] > 0
    async with v2_grpc.InferenceServerClient(node.agent.target) as client:
        assert not await client.is_model_ready("corrupt")
    assert (await http.get("/v2/models/corrupt/ready")).status_code == 400


async def test_a_store_that_refuses_us(tmp_path: Path, shelf: Path) -> None:
    denied = "<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message></Error>"
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(fixed_reply(403, denied))
        store = {"url": "s3://models-prod/p", "endpoint": endpoint, "region": "us-east-1", "anonymous": True}
        nowhere = Served("127.0.0.1:1", "127.0.0.1:1")  # a model server is never asked
        spec = CachedSpec("node", store=store)
        node = await stack.enter_async_context(CachedNode(spec, shelf, tmp_path / "node", nowhere))
        http = await stack.enter_async_context(rest_client(node.agent.http))
        told = "Model 'a' cannot be had now: its store does not answer as it should."
        assert await tfs_rest(http, "a") == (503, told)
        reply: GrpcReply = await predict(node, "a")
        assert (reply.code, reply.details) == ("UNAVAILABLE", told)
        failures = (await node.agent.status())["store_failures"]
        assert "403" in failures["a"]
        assert "SignatureDoesNotMatch" in failures["a"]
