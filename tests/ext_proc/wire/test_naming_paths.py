"""Naming by headers alone: REST paths, gRPC methods, the model header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.names import check_name
from ext_proc.wire.naming import Unnamed, name_call, write_model
from tests.ext_proc.wire.messages import INFER, LIMIT, PREDICT, by_path, outcome

TFS, V2 = InferenceProtocol.TFS_REST, InferenceProtocol.V2_REST


def by_grpc(path: str, **headers: str) -> Call | Unnamed | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return name_call({":path": path, ":method": "POST", "content-type": "application/grpc"} | named, LIMIT)


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
