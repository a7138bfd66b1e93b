"""A rewritten call is the client's own message with another model in it."""

import gzip
from urllib.parse import quote

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as v2

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.naming import name_call
from ext_proc.wire.protobuf.fields import len_field, varint_field
from ext_proc.wire.rewrite import swap_model, swap_path
from mesh.protos import tfs_pb2 as tfs
from tests.ext_proc.wire.messages import (
    ENCODINGS,
    GOOD_NAMES,
    LIMIT,
    SPECS,
    UNKNOWN,
    VERSIONS,
    framed,
    name_body,
)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MULTI = "/tensorflow.serving.PredictionService/MultiInference"
INFER = "/inference.GRPCInferenceService/ModelInfer"
CHOICES = st.one_of(st.just((None, None)), st.tuples(VERSIONS.map(str), st.none()), st.tuples(st.none(), GOOD_NAMES))


def swap(
    path: str, body: bytes, model: str, version: str | None = None, label: str | None = None, encoding: str = "identity"
) -> bytes:
    call = name_body(path, body, encoding)
    assert call is not None
    out = swap_model(call, body, model, version, label, encoding=encoding, limit=LIMIT)
    assert out[0] == 0
    assert int.from_bytes(out[1:5], "big") == len(out) - 5
    return out[5:]


def respec(spec: tfs.ModelSpec, model: str, version: str | None, label: str | None) -> None:
    spec.name = model
    spec.ClearField("version")
    spec.ClearField("version_label")
    if version is not None:
        spec.version.value = int(version)
    if label is not None:
        spec.version_label = label


@given(SPECS, UNKNOWN, UNKNOWN, st.binary(max_size=500), GOOD_NAMES, CHOICES, ENCODINGS)
def test_only_the_spec_of_a_tf_serving_request_changes(
    spec: tfs.ModelSpec,
    inside: bytes,
    around: bytes,
    tensor: bytes,
    model: str,
    choice: tuple[str | None, str | None],
    encoding: str,
) -> None:
    before = around + tfs.PredictRequest(inputs={"x": tfs.TensorProto(tensor_content=tensor)}).SerializeToString()
    kept = inside + (len_field(3, spec.signature_name.encode()) if spec.signature_name else b"")
    body = before + len_field(1, inside + spec.SerializeToString()) + around
    swapped = swap(PREDICT, framed(body, encoding), model, *choice, encoding=encoding)

    wanted = tfs.PredictRequest.FromString(body)
    respec(wanted.model_spec, model, *choice)
    assert tfs.PredictRequest.FromString(swapped) == wanted
    named = tfs.ModelSpec()
    respec(named, model, *choice)
    assert swapped == before + len_field(1, named.SerializeToString() + kept) + around, "every other byte stays"


@given(SPECS, UNKNOWN)
def test_the_same_model_gives_the_same_message(spec: tfs.ModelSpec, unknown: bytes) -> None:
    body = len_field(1, spec.SerializeToString()) + unknown
    version = str(spec.version.value) if spec.HasField("version") else None
    label = spec.version_label if spec.HasField("version_label") else None
    swapped = swap(PREDICT, framed(body), spec.name, version, label)
    assert tfs.PredictRequest.FromString(swapped) == tfs.PredictRequest.FromString(body)


@given(st.lists(SPECS, min_size=1, max_size=4), GOOD_NAMES, CHOICES)
def test_every_occurrence_of_a_spec_is_swapped(
    specs: list[tfs.ModelSpec], model: str, choice: tuple[str | None, str | None]
) -> None:
    body = b"".join(len_field(1, spec.SerializeToString()) for spec in specs)
    swapped = tfs.PredictRequest.FromString(swap(PREDICT, framed(body), model, *choice))
    wanted = tfs.PredictRequest.FromString(body)
    respec(wanted.model_spec, model, *choice)
    assert swapped == wanted


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tensorflow.serving.PredictionService/Classify", tfs.ClassificationRequest),
        ("/tensorflow.serving.PredictionService/Regress", tfs.RegressionRequest),
        ("/tensorflow.serving.PredictionService/GetModelMetadata", tfs.GetModelMetadataRequest),
        ("/tensorflow.serving.ModelService/GetModelStatus", tfs.GetModelStatusRequest),
        ("/tensorflow.serving.SessionService/SessionRun", tfs.SessionRunRequest),
    ],
)
def test_every_tf_serving_request_can_be_swapped(path: str, kind: type[Message]) -> None:
    body = kind(model_spec=tfs.ModelSpec(name="m", signature_name="s")).SerializeToString()
    swapped = kind.FromString(swap(path, framed(body), "n", "4"))
    assert swapped == kind(model_spec=tfs.ModelSpec(name="n", signature_name="s", version={"value": 4}))


def test_every_task_is_swapped() -> None:
    spec = tfs.ModelSpec(name="m", signature_name="a")
    request = tfs.MultiInferenceRequest(
        tasks=[tfs.InferenceTask(model_spec=spec, method_name=name) for name in ("classify", "regress")],
        input=tfs.Input(example_list={"examples": [b"abc"]}),
    )
    swapped = tfs.MultiInferenceRequest.FromString(swap(MULTI, framed(request.SerializeToString()), "n", "7"))
    for task in request.tasks:
        respec(task.model_spec, "n", "7", None)
    assert swapped == request


def test_tasks_of_several_models_are_refused_as_tf_serving_does() -> None:
    tasks = [tfs.InferenceTask(model_spec={"name": name}) for name in "mn"]
    with pytest.raises(CallError, match="must access the same model name") as caught:
        swap(MULTI, framed(tfs.MultiInferenceRequest(tasks=tasks).SerializeToString()), "x")
    assert caught.value.reason is Reason.INVALID


@given(GOOD_NAMES, st.none() | VERSIONS.map(str), st.binary(max_size=500), UNKNOWN, GOOD_NAMES, ENCODINGS)
def test_only_name_and_version_of_a_v2_request_change(
    name: str, version: str | None, tensor: bytes, unknown: bytes, model: str, encoding: str
) -> None:
    request = v2.ModelInferRequest(model_name=name, model_version="1", id="i", raw_input_contents=[tensor])
    body = unknown + request.SerializeToString()
    swapped = swap(INFER, framed(body, encoding), model, version, encoding=encoding)
    wanted = v2.ModelInferRequest.FromString(body)
    wanted.model_name, wanted.model_version = model, version or ""
    assert v2.ModelInferRequest.FromString(swapped) == wanted
    rest = v2.ModelInferRequest(id="i", raw_input_contents=[tensor]).SerializeToString()
    assert swapped.endswith(unknown + rest), "every other byte stays"


def test_a_call_that_its_header_named_is_given_a_spec() -> None:
    call = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
    body = framed(tfs.PredictRequest(output_filter=["y"]).SerializeToString())
    swapped = swap_model(call, body, "n", None, None, encoding="identity", limit=LIMIT)
    assert tfs.PredictRequest.FromString(swapped[5:]) == tfs.PredictRequest(
        model_spec={"name": "n"}, output_filter=["y"]
    )


def test_v2_has_no_labels() -> None:
    grpc, rest = Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m"), Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
    with pytest.raises(CallError, match="no version labels, so 'canary' of 'n'") as caught:
        swap_model(grpc, framed(b""), "n", None, "canary", encoding="identity", limit=LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED
    with pytest.raises(CallError, match="no version labels, so 'canary' of 'n'"):
        swap_path(rest, "/v2/models/m/infer", "n", None, "canary")


@pytest.mark.parametrize(
    ("model", "version", "label"), [("a/b", None, None), ("..", None, None), ("n", "x", None), ("n", None, "a/b")]
)
def test_the_other_model_is_checked_too(model: str, version: str | None, label: str | None) -> None:
    call = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
    with pytest.raises(CallError):
        swap_model(call, framed(b""), model, version, label, encoding="identity", limit=LIMIT)
    with pytest.raises(CallError):
        swap_path(Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "m"), "/v1/models/m:predict", model, version, label)


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (framed(b"\x0a\x05a"), Reason.INVALID, "field 1 is cut off"),
        (framed(len_field(1, b"\x0a\x05a")), Reason.INVALID, "field 1 is cut off"),
        (framed(b"") + framed(b""), Reason.INVALID, "more than one message"),
        (framed(b"")[:4], Reason.INVALID, "ends before the head"),
        (framed(b"\0" * 2000), Reason.TOO_LARGE, "2000 bytes against 1000"),
        (framed(len_field(2, b"\0" * 2000), "gzip"), Reason.TOO_LARGE, "larger than the limit"),
    ],
)
def test_what_cannot_be_swapped(body: bytes, reason: Reason, says: str) -> None:
    call = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
    with pytest.raises(CallError, match=says) as caught:
        swap_model(call, body, "n", None, None, encoding="gzip", limit=1000)
    assert caught.value.reason is reason


def test_reading_specs_is_bounded() -> None:
    specs = len_field(1, varint_field(9, 1) * 4_000) * 10
    for verb in (Verb.PREDICT, Verb.MULTI_INFERENCE):
        with pytest.raises(CallError, match="are too large"):
            swap_model(
                Call(InferenceProtocol.TFS_GRPC, verb, "m"), framed(specs), "n", None, None, encoding="", limit=LIMIT
            )


@pytest.mark.parametrize(
    ("path", "swapped"),
    [
        ("/v1/models/m:predict", "/v1/models/n/versions/2:predict"),
        ("/v1/models/m/versions/7:classify?a=b&c", "/v1/models/n/versions/2:classify?a=b&c"),
        ("/v1/models/m/labels/l:regress", "/v1/models/n/versions/2:regress"),
        ("/v1/models/m", "/v1/models/n/versions/2"),
        ("/v1/models/m/metadata", "/v1/models/n/versions/2/metadata"),
        ("/v1/models/m/versions/7/metadata", "/v1/models/n/versions/2/metadata"),
        ("/V1/Models/m/versions/7:Predict", "/V1/Models/n/versions/2:Predict"),
        ("/v2/models/m/infer", "/v2/models/n/versions/2/infer"),
        ("/v2/models/m/versions/7/infer?x=1", "/v2/models/n/versions/2/infer?x=1"),
        ("/v2/models/m/generate_stream", "/v2/models/n/versions/2/generate_stream"),
        ("/v2/models/versions/infer", "/v2/models/n/versions/2/infer"),
        ("/v2/models/m", "/v2/models/n/versions/2"),
    ],
)
def test_a_path_for_another_model(path: str, swapped: str) -> None:
    call = name_call({":path": path}, LIMIT)
    assert isinstance(call, Call)
    assert swap_path(call, path, "n", "2", None) == swapped


PATHS = st.sampled_from(
    [
        "/v1/models/m:predict",
        "/v1/models/m:regress?q=1",
        "/v1/models/m/versions/3",
        "/v1/models/m/labels/l/metadata",
        "/v2/models/m",
        "/v2/models/m/infer",
        "/v2/models/m/stats",
        "/v2/models/m/versions/3/ready?q",
    ]
)


@given(PATHS, GOOD_NAMES, CHOICES)
def test_a_swapped_path_names_the_other_model(path: str, model: str, choice: tuple[str | None, str | None]) -> None:
    version, label = choice
    call = name_call({":path": path}, LIMIT)
    assert isinstance(call, Call)
    if call.protocol is InferenceProtocol.V2_REST:
        label = None
    swapped = swap_path(call, path, model, version, label)
    named = name_call({":path": swapped}, LIMIT)
    if model == "stats" and swapped == "/v2/models/stats":
        assert named is None, "Triton's statistics of all models shadow this one"
    else:
        assert named == Call(call.protocol, call.verb, model, version, label)
    assert swapped.partition("?")[2] == path.partition("?")[2]
    assert quote(swapped, safe="/?:=!$&'()*+,;@%") == swapped


def test_gzip_is_unpacked_once() -> None:
    message = tfs.PredictRequest(model_spec={"name": "m"}).SerializeToString()
    packed = gzip.compress(message)
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert swap(PREDICT, body, "m", encoding="gzip") == message
