"""TF Serving's gRPC API, called with messages of the same wire format."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from tests.mesh.model_server import graphs
from tests.mesh.model_server.running import Running, running

PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
RESPONSES = {
    "Predict": tfs.PredictResponse,
    "GetModelMetadata": tfs.GetModelMetadataResponse,
    "GetModelStatus": tfs.GetModelStatusResponse,
    "HandleReloadConfigRequest": tfs.ReloadConfigResponse,
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    graphs.scaling(tmp_path / "m" / "1", 2)
    graphs.scaling(tmp_path / "m" / "2", 3)
    graphs.two(tmp_path / "two" / "1")
    return tmp_path


@pytest.fixture
async def server(repository: Path) -> AsyncIterator[Running]:
    async with running(repository) as made:
        yield made


async def call(server: Running, method: str, request: Any) -> Any:
    """The answer, or (code, details)."""
    service = MODEL if method in ("GetModelStatus", "HandleReloadConfigRequest") else PREDICTION
    data = request if isinstance(request, bytes) else request.SerializeToString()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        try:
            reply = await channel.unary_unary(f"/{service}/{method}")(data)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()
    return RESPONSES[method].FromString(reply)


def spec(name: str = "m", version: int | None = None, label: str = "", signature: str = "") -> tfs.ModelSpec:
    made = tfs.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


ROWS = np.array([[1, 2], [3, 4]], np.float32)


def predict(model: tfs.ModelSpec, *output_filter: str, **inputs: Any) -> tfs.PredictRequest:
    request = tfs.PredictRequest(model_spec=model, output_filter=output_filter)
    for name, array in (inputs or {"x": ROWS}).items():
        request.inputs[name].CopyFrom(tf_tensors.encode(array))
    return request


async def test_predict_takes_the_latest_version(server: Running) -> None:
    reply = await call(server, "Predict", predict(spec()))
    assert tf_tensors.decode(reply.outputs["y"]).tolist() == (ROWS * 3).tolist()
    assert list(reply.outputs["y"].float_val) == [3, 6, 9, 12]
    assert reply.model_spec == spec(version=2, signature="serving_default")


async def test_predict_large_messages(server: Running) -> None:
    rows = np.random.default_rng(1).random((100_000, 2), np.float32)
    reply = await call(server, "Predict", predict(spec(signature="serving_default"), x=rows))
    assert tf_tensors.decode(reply.outputs["y"]).shape == (100_000, 2)


async def test_output_filter(server: Running) -> None:
    ones = np.ones(2, np.float32)
    reply = await call(server, "Predict", predict(spec("two"), "difference", a=ones, b=ones))
    assert list(reply.outputs) == ["difference"]
    reply = await call(server, "Predict", predict(spec("two"), a=ones, b=ones))
    assert sorted(reply.outputs) == ["difference", "sum"]


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("method", "request_", "code", "details"),
    [
        ("Predict", tfs.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        ("Predict", predict(spec("")), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ("Predict", predict(spec("no")), "NOT_FOUND", "Servable not found for request: Latest(no)"),
        ("Predict", predict(spec("../m")), "NOT_FOUND", "Servable not found for request: Latest(../m)"),
        ("Predict", predict(spec(version=1)), "NOT_FOUND", "Servable not found for request: Specific(m, 1)"),
        ("Predict", predict(spec(version=-7)), "NOT_FOUND", "Servable not found for request: Specific(m, -7)"),
        ("Predict", predict(spec(label="x")), "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
        (
            "Predict",
            predict(spec(signature="s")),
            "FAILED_PRECONDITION",
            'Serving signature key "s" not found.',
        ),
        (
            "Predict",
            predict(spec(), x=ROWS, w=ROWS),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({w,x}) != len({x}). Sent extra: {w}. "
            "Missing but required: {}.",
        ),
        (
            "Predict",
            predict(spec(), w=ROWS),
            "INVALID_ARGUMENT",
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {w}, or default input alias set: ",
        ),
        (
            "Predict",
            predict(spec(), x=ROWS.astype(np.float64)),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but double is provided",
        ),
        (
            "Predict",
            predict(spec("two"), "sum", "sum", a=ONE, b=ONE),
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: sum",
        ),
        (
            "Predict",
            predict(spec(), "z"),
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
        ),
        ("Predict", b"\xff\xff", "INVALID_ARGUMENT", "the request is not a valid PredictRequest message"),
        (
            "Classify",
            tfs.ClassificationRequest(model_spec=spec()),
            "INVALID_ARGUMENT",
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            "Was: tensorflow/serving/predict",
        ),
        (
            "Regress",
            tfs.RegressionRequest(model_spec=spec(signature="s")),
            "INVALID_ARGUMENT",
            "No signature was found with the name: s",
        ),
        (
            "Regress",
            tfs.RegressionRequest(model_spec=spec("no")),
            "NOT_FOUND",
            "Servable not found for request: Latest(no)",
        ),
        ("MultiInference", tfs.MultiInferenceRequest(), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (
            "MultiInference",
            tfs.MultiInferenceRequest(tasks=[tfs.InferenceTask(model_spec=spec(), method_name="x")]),
            "UNIMPLEMENTED",
            "Unsupported signature method_name: x",
        ),
        (
            "GetModelMetadata",
            tfs.GetModelMetadataRequest(model_spec=spec()),
            "INVALID_ARGUMENT",
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            "GetModelMetadata",
            tfs.GetModelMetadataRequest(model_spec=spec(), metadata_field=["x"]),
            "INVALID_ARGUMENT",
            "Metadata field x is not supported",
        ),
        (
            "GetModelStatus",
            tfs.GetModelStatusRequest(model_spec=spec("no")),
            "NOT_FOUND",
            "Could not find any versions of model no",
        ),
        (
            "GetModelStatus",
            tfs.GetModelStatusRequest(model_spec=spec(version=1)),
            "NOT_FOUND",
            "Could not find version 1 of model m",
        ),
        (
            "HandleReloadConfigRequest",
            tfs.ReloadConfigRequest(),
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        ),
    ],
)
async def test_refusals_are_tf_servings(server: Running, method: str, request_: Any, code: str, details: str) -> None:
    assert await call(server, method, request_) == (code, details)


async def test_a_bad_shape_and_a_bad_tensor(server: Running) -> None:
    code, details = await call(server, "Predict", predict(spec(), x=np.ones((1, 3), np.float32)))
    assert code == "INVALID_ARGUMENT"
    assert "invalid dimensions for input: x" in details
    broken = predict(spec())
    broken.inputs["x"].tensor_content = b"123"
    assert await call(server, "Predict", broken) == ("INVALID_ARGUMENT", "tensor parsing error: x")


async def test_long_messages_are_cut(server: Running) -> None:
    _, details = await call(server, "Predict", predict(spec("n" * 2000)))
    assert details.endswith("...TRUNCATED")
    assert len(details) == 1024 + len("...TRUNCATED")


async def test_metadata(server: Running) -> None:
    request = tfs.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    reply = await call(server, "GetModelMetadata", request)
    assert reply.model_spec == spec(version=2)
    packed = reply.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = tfs.SignatureDefMap.FromString(packed.value).signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 2]
    assert signature.outputs["y"].dtype == tfs.DT_FLOAT


async def test_status(server: Running) -> None:
    reply = await call(server, "GetModelStatus", tfs.GetModelStatusRequest(model_spec=spec()))
    (status,) = reply.model_version_status
    assert (status.version, status.state) == (2, tfs.ModelVersionStatus.AVAILABLE)
    assert status.HasField("status")


def reload(*configs: tfs.ModelConfig) -> tfs.ReloadConfigRequest:
    request = tfs.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    request.config.model_config_list.config.extend(configs)
    return request


def config(name: str, base: Path | str, **fields: Any) -> tfs.ModelConfig:
    return tfs.ModelConfig(name=name, base_path=str(base), model_platform="tensorflow", **fields)


async def test_reload_versions_and_labels(server: Running, repository: Path) -> None:
    wanted = config("m", repository / "m", version_labels={"stable": 1, "canary": 2})
    wanted.model_version_policy.all.SetInParent()
    reply = await call(server, "HandleReloadConfigRequest", reload(wanted))
    assert (reply.status.error_code, reply.HasField("status")) == (tfs.OK, True)
    for label, factor in (("stable", 2), ("canary", 3)):
        answer = await call(server, "Predict", predict(spec(label=label)))
        assert tf_tensors.decode(answer.outputs["y"]).tolist() == (ROWS * factor).tolist()
    assert (await call(server, "Predict", predict(spec("two"))))[0] == "NOT_FOUND"
    status = await call(server, "GetModelStatus", tfs.GetModelStatusRequest(model_spec=spec("two")))
    assert [each.state for each in status.model_version_status] == [tfs.ModelVersionStatus.END]
    await call(server, "HandleReloadConfigRequest", reload())
    assert (await call(server, "Predict", predict(spec())))[0] == "NOT_FOUND"


async def test_reload_refusals_change_nothing(server: Running, repository: Path) -> None:
    (repository / "bad" / "1").mkdir(parents=True)
    good = config("m", repository / "m")
    unlabelled = config("m", repository / "m", version_labels={"stable": 1})
    refused = [
        (reload(good, good), "INVALID_ARGUMENT", "Illegal to list model m multiple times in config list"),
        (
            reload(config("m", "m")),
            "INVALID_ARGUMENT",
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (
            reload(config("m", repository / "m" / ".." / ".." / "..")),
            "INVALID_ARGUMENT",
            "The base_path of model m lies outside the folders that this server may read",
        ),
        (reload(config("a/b", repository / "m")), "INVALID_ARGUMENT", "Invalid servable name: 'a/b'"),
        (
            reload(tfs.ModelConfig(name="m", base_path=str(repository / "m"))),
            "INVALID_ARGUMENT",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            reload(tfs.ModelConfig(name="m", base_path=str(repository / "m"), model_platform="x")),
            "INVALID_ARGUMENT",
            "Model m requests unsupported platform x",
        ),
        (
            reload(unlabelled, config("two", repository / "two")),
            "FAILED_PRECONDITION",
            "Request to assign label to version 1 of model m, which is not currently available for inference",
        ),
    ]
    for request, code, details in refused:
        assert await call(server, "HandleReloadConfigRequest", request) == (code, details)
        assert not isinstance(await call(server, "Predict", predict(spec())), tuple)
    failing = reload(good, config("bad", repository / "bad"))
    code, details = await call(server, "HandleReloadConfigRequest", failing)
    assert (code, details.partition(" due")[0]) == (
        "UNKNOWN",
        "1 model(s) did not become available: {{{name: bad version: 1}",
    )
    status = await call(server, "GetModelStatus", tfs.GetModelStatusRequest(model_spec=spec("bad")))
    assert status.model_version_status[0].status.error_code == tfs.NOT_FOUND


async def test_session_run_is_not_there(server: Running) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
