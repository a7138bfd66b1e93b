"""Naming by headers alone: REST paths, gRPC methods, the model header."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_name
from ext_proc.wire.naming import Unnamed, name_call, write_model
from tests.ext_proc.wire.messages import GOOD_NAMES, LIMIT, VERSIONS, outcome

TFS, V2 = InferenceProtocol.TFS_REST, InferenceProtocol.V2_REST
PREDICT = "/tensorflow.serving.PredictionService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"


def by_path(path: str, method: str = "POST") -> Call | Unnamed | None:
    return name_call({":path": path, ":method": method, "content-type": "application/json"}, LIMIT)


def by_grpc(path: str, **headers: str) -> Call | Unnamed | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return name_call({":path": path, ":method": "POST", "content-type": "application/grpc"} | named, LIMIT)


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/models/m:predict", Call(TFS, Verb.PREDICT, "m")),
        ("/v1/models/m:classify", Call(TFS, Verb.CLASSIFY, "m")),
        ("/v1/models/m:regress", Call(TFS, Verb.REGRESS, "m")),
        ("/v1/models/m/versions/7:predict", Call(TFS, Verb.PREDICT, "m", version="7")),
        ("/v1/models/m/labels/canary:predict", Call(TFS, Verb.PREDICT, "m", label="canary")),
        ("/v1/models/m", Call(TFS, Verb.STATUS, "m")),
        ("/v1/models/m/versions/7", Call(TFS, Verb.STATUS, "m", version="7")),
        ("/v1/models/m/labels/canary", Call(TFS, Verb.STATUS, "m", label="canary")),
        ("/v1/models/m/metadata", Call(TFS, Verb.METADATA, "m")),
        ("/v1/models/m/versions/7/metadata", Call(TFS, Verb.METADATA, "m", version="7")),
        ("/v1/models/m/labels/canary/metadata", Call(TFS, Verb.METADATA, "m", label="canary")),
        # TF Serving's regular expressions: case does not count, and these names are names.
        ("/V1/Models/M/Versions/7:PREDICT", Call(TFS, Verb.PREDICT, "M", version="7")),
        ("/v1/models/metadata", Call(TFS, Verb.STATUS, "metadata")),
        ("/v1/models/m/labels/metadata", Call(TFS, Verb.STATUS, "m", label="metadata")),
        ("/v1/models/m%3Apredict", Call(TFS, Verb.STATUS, "m:predict")),
        ("/v1/models/a%20b:predict?x=/v2", Call(TFS, Verb.PREDICT, "a b")),
        ("/v1/models/%C3%A9:predict", Call(TFS, Verb.PREDICT, "é")),
        ("/v2/models/m/infer", Call(V2, Verb.INFER, "m")),
        ("/v2/models/m/versions/7/infer", Call(V2, Verb.INFER, "m", version="7")),
        ("/v2/models/m/ready", Call(V2, Verb.READY, "m")),
        ("/v2/models/m/config", Call(V2, Verb.CONFIG, "m")),
        ("/v2/models/m/stats", Call(V2, Verb.STATISTICS, "m")),
        ("/v2/models/m", Call(V2, Verb.METADATA, "m")),
        ("/v2/models/m/versions/7", Call(V2, Verb.METADATA, "m", version="7")),
        ("/v2/models/m/generate", Call(V2, Verb.STREAM_INFER, "m")),
        ("/v2/models/m/generate_stream", Call(V2, Verb.STREAM_INFER, "m")),
        ("/v2/models/stats/infer", Call(V2, Verb.INFER, "stats")),
        ("/v2/models/m/infer?a=b", Call(V2, Verb.INFER, "m")),
    ],
)
def test_a_rest_path_names_its_call(path: str, call: Call) -> None:
    assert by_path(path) == call
    assert by_path(path, "GET") == call, "the node judges the HTTP method"


@given(GOOD_NAMES, VERSIONS)
def test_any_name_survives_a_rest_path(name: str, version: int) -> None:
    escaped = quote(name, safe="")
    assert by_path(f"/v1/models/{escaped}/versions/{version}:predict") == Call(TFS, Verb.PREDICT, name, str(version))
    assert by_path(f"/v2/models/{escaped}/versions/{version}/infer") == Call(V2, Verb.INFER, name, str(version))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/metrics",
        "/v1",
        "/v1/models",
        "/v1/other/m:predict",
        "/v1/models/m:explain",
        "/v1beta/models/m:predict",
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/v2/models/stats",
        "/v2/models/m/trace/setting",
        "/v2/models/m/unheard",
        "/v2/logging",
        "/v2/systemsharedmemory/status",
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/inference.GRPCInferenceService/ServerMetadata",
        "/tensorflow.serving.PredictionService/Unheard",
        "/tensorflow.serving.PredictionService/Predict/",
        "/" + "x" * 4_000,
    ],
)
def test_what_is_not_inference_passes(path: str) -> None:
    assert by_path(path) is None
    assert by_grpc(path) is None


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/models/", "model name is empty"),
        ("/v1/models/:predict", "model name is empty"),
        ("/v1/models//versions/1:predict", "model name is empty"),
        ("/v1/models/m/", "Malformed request: '' after the model name"),
        ("/v1/models/a/b:predict", "Malformed request: 'b' after the model name"),
        ("/v1/models/a:b:predict", "holds a ':'"),
        ("/v1/models/a:predict/versions/1", "holds a ':'"),
        ("/v1/models/a/versions/x:predict", "model version 'x'"),
        ("/v1/models/a/versions/-1:predict", "model version '-1'"),
        ("/v1/models/a/versions/9223372036854775808:predict", "model version"),
        ("/v1/models/a/versions/1/labels/x:predict", "Malformed request"),
        ("/v1/models/a/labels/..:predict", "version label '..'"),
        ("/v1/models/a%2Fb:predict", "holds a '/'"),
        ("/v1/models/%2e%2e:predict", "'..'"),
        ("/v1/models/..", "'..'"),
        ("/v1/models/a%5Cb:predict", "holds a '\\'"),
        ("/v1/models/a%0Ab:predict", "control character"),
        ("/v1/models/a%00:predict", "control character"),
        ("/v1/models/a%FF:predict", "not UTF-8"),
        ("/v1/models/" + "x" * 256 + ":predict", "256 bytes"),
        ("/v1/models/" + "x" * 5_000 + ":predict", "5000 bytes"),
        ("/v2/models//infer", "model name is empty"),
        ("/v2/models/", "model name is empty"),
        ("/v2/models/../infer", "'..'"),
        ("/v2/models/a%2Fb/infer", "holds a '/'"),
        ("/v2/models/%2E%2E/infer", "'..'"),
        ("/v2/models/m/versions/x/infer", "model version 'x'"),
        ("/v2/models/m/versions//infer", "model version ''"),
    ],
)
def test_a_path_that_cannot_be(path: str, says: str) -> None:
    with pytest.raises(CallError) as caught:
        by_path(path)
    assert caught.value.reason is Reason.INVALID
    assert says in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/m/load",
        "/v2/repository/models/m/unload",
        "/v2/repository/mine/models/m/load",
        "/v2/%72epository/models/m/load",
        "/%762/repository/models/m/load",
        "/v2/repository%2Fmodels/m/load?x",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/inference.GRPCInferenceService/RepositoryModelUnload",
        "/inference.GRPCInferenceService/RepositoryIndex",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    ],
)
def test_control_is_not_open_to_clients(path: str) -> None:
    for named in ({}, {"x-tbms-model": "m"}, {"content-type": "application/grpc"}, {"content-type": "text/plain"}):
        with pytest.raises(CallError, match="not open to clients") as caught:
            name_call({":path": path, ":method": "POST", **named}, LIMIT)
        assert caught.value.reason is Reason.DENIED


@pytest.mark.parametrize(
    ("path", "protocol", "verb"),
    [
        (PREDICT, InferenceProtocol.TFS_GRPC, Verb.PREDICT),
        ("/tensorflow.serving.PredictionService/Classify", InferenceProtocol.TFS_GRPC, Verb.CLASSIFY),
        ("/tensorflow.serving.PredictionService/Regress", InferenceProtocol.TFS_GRPC, Verb.REGRESS),
        ("/tensorflow.serving.PredictionService/MultiInference", InferenceProtocol.TFS_GRPC, Verb.MULTI_INFERENCE),
        ("/tensorflow.serving.PredictionService/GetModelMetadata", InferenceProtocol.TFS_GRPC, Verb.METADATA),
        ("/tensorflow.serving.ModelService/GetModelStatus", InferenceProtocol.TFS_GRPC, Verb.STATUS),
        ("/tensorflow.serving.SessionService/SessionRun", InferenceProtocol.TFS_GRPC, Verb.SESSION_RUN),
        (INFER, InferenceProtocol.V2_GRPC, Verb.INFER),
        ("/inference.GRPCInferenceService/ModelStreamInfer", InferenceProtocol.V2_GRPC, Verb.STREAM_INFER),
        ("/inference.GRPCInferenceService/ModelReady", InferenceProtocol.V2_GRPC, Verb.READY),
        ("/inference.GRPCInferenceService/ModelMetadata", InferenceProtocol.V2_GRPC, Verb.METADATA),
        ("/inference.GRPCInferenceService/ModelConfig", InferenceProtocol.V2_GRPC, Verb.CONFIG),
        ("/inference.GRPCInferenceService/ModelStatistics", InferenceProtocol.V2_GRPC, Verb.STATISTICS),
    ],
)
def test_a_grpc_method_is_named_by_the_header_or_by_its_body(
    path: str, protocol: InferenceProtocol, verb: Verb
) -> None:
    assert by_grpc(path, x_tbms_model="m") == Call(protocol, verb, "m")
    unnamed = by_grpc(path)
    assert isinstance(unnamed, Unnamed)
    assert (unnamed.protocol, unnamed.verb) == (protocol, verb)


@pytest.mark.parametrize(
    ("value", "version", "label"),
    [("m/versions/3", "3", None), ("m/labels/stable", None, "stable"), ("%6d/labels/a%20b", None, "a b")],
)
def test_the_header_may_name_a_version(value: str, version: str | None, label: str | None) -> None:
    assert by_grpc(PREDICT, x_tbms_model=value) == Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m", version, label)


@pytest.mark.parametrize("value", ["m/versions/x", "m/versions/", "m/labels/", "m/labels/%2F", "m/versions/1/2", "m/"])
def test_a_version_in_the_header_is_checked(value: str) -> None:
    with pytest.raises(CallError) as caught:
        by_grpc(PREDICT, x_tbms_model=value)
    assert caught.value.reason is Reason.INVALID


@given(
    st.text(min_size=1, max_size=50),
    st.none() | st.integers(0, 2**63 - 1).map(str),
    st.none() | st.text(min_size=1, max_size=9),
)
def test_what_the_header_says_is_what_was_written(model: str, version: str | None, label: str | None) -> None:
    try:
        check_name(model)
        check_name(label or "none")
    except CallError:
        return
    label = None if version is not None else label
    value = write_model(model, version, label)
    assert value.isascii()
    assert by_grpc(PREDICT, x_tbms_model=value) == Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, model, version, label)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\tb", "x" * 256])
def test_the_header_is_checked_like_any_name(name: str) -> None:
    with pytest.raises(CallError, match=r"^The x-tbms-model header") as caught:
        by_grpc(PREDICT, x_tbms_model=name)
    assert caught.value.reason is Reason.INVALID


@pytest.mark.parametrize(
    ("content_type", "ours"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("application/grpc;charset=utf-8", True),
        ("application/grpc-web", False),
        ("application/grpc-web-text", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_only_grpc_itself_has_grpc_bodies(content_type: str, ours: bool) -> None:
    assert isinstance(by_grpc(PREDICT, content_type=content_type), Unnamed) is ours


def test_headers_that_say_nothing_pass() -> None:
    assert name_call({}, LIMIT) is None


@given(st.text() | st.text(alphabet="/:.%2fFeEvV12modelspredictversionslabels0").map("/v1/models/".__add__))
def test_any_path_is_a_call_or_a_clear_error(path: str) -> None:
    named = outcome(lambda: by_path(path))
    if isinstance(named, CallError):
        assert named.message.isascii()
        assert named.message.isprintable()
    else:
        assert named is None or isinstance(named, Call)
