"""Calls of TF Serving's gRPC API: where they name their model, and how they are given another one."""

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.protobuf.fields import len_field, varint_field
from mesh.protos import tfs_pb2 as tfs
from tests.ext_proc.wire.messages import (
    CHOICES,
    CUTS,
    ENCODINGS,
    GOOD_NAMES,
    LIMIT,
    MULTI,
    PREDICT,
    SPECS,
    UNKNOWN,
    framed,
    name_body,
    name_chunks,
    outcome,
    swap,
    swap_body,
    unknown_fields,
    unnamed,
)

TFS = InferenceProtocol.TFS_GRPC
TFS_METHODS: list[tuple[str, Verb, type[Message]]] = [
    (PREDICT, Verb.PREDICT, tfs.PredictRequest),
    ("/tensorflow.serving.PredictionService/Classify", Verb.CLASSIFY, tfs.ClassificationRequest),
    ("/tensorflow.serving.PredictionService/Regress", Verb.REGRESS, tfs.RegressionRequest),
    ("/tensorflow.serving.PredictionService/GetModelMetadata", Verb.METADATA, tfs.GetModelMetadataRequest),
    ("/tensorflow.serving.ModelService/GetModelStatus", Verb.STATUS, tfs.GetModelStatusRequest),
    ("/tensorflow.serving.SessionService/SessionRun", Verb.SESSION_RUN, tfs.SessionRunRequest),
]


def expected(spec: tfs.ModelSpec, verb: Verb) -> Call:
    choice = spec.WhichOneof("version_choice")
    version = str(spec.version.value) if choice == "version" else None
    label = spec.version_label if choice == "version_label" else None
    return Call(TFS, verb, spec.name, version, label, spec.signature_name or None)


@pytest.mark.parametrize(("path", "verb", "kind"), TFS_METHODS)
def test_every_tf_serving_request_names_its_model(path: str, verb: Verb, kind: type[Message]) -> None:
    spec = tfs.ModelSpec(name="m", version={"value": 3}, signature_name="s")
    assert name_body(path, kind(model_spec=spec)) == Call(TFS, verb, "m", "3", None, "s")
    spec = tfs.ModelSpec(name="m", version_label="canary")
    assert name_body(path, kind(model_spec=spec)) == Call(TFS, verb, "m", None, "canary")
    with pytest.raises(CallError, match=r"^Missing ModelSpec$"):
        name_body(path, kind())
    with pytest.raises(CallError, match=r"^ModelSpec has no name specified"):
        name_body(path, kind(model_spec=tfs.ModelSpec(version_label="x")))


@given(SPECS, UNKNOWN, UNKNOWN, UNKNOWN, st.binary(max_size=2000), CUTS, ENCODINGS)
def test_a_spec_is_found_wherever_it_stands_and_however_it_arrives(
    spec: tfs.ModelSpec, before: bytes, inside: bytes, after: bytes, tensor: bytes, cuts: list[int], encoding: str
) -> None:
    inputs = tfs.PredictRequest(inputs={"x": tfs.TensorProto(tensor_content=tensor)}).SerializeToString()
    body = framed(before + inputs + len_field(1, inside + spec.SerializeToString()) + after, encoding)
    call = expected(spec, Verb.PREDICT)
    assert name_chunks(unnamed(PREDICT, encoding), body, cuts) == call
    assert name_body(PREDICT, body, encoding) == call
    assert name_chunks(unnamed(PREDICT, encoding), body, list(range(min(len(body), 3000)))) == call


@given(SPECS, SPECS)
def test_specs_without_a_name_are_merged_into_the_one_that_has_it(first: tfs.ModelSpec, second: tfs.ModelSpec) -> None:
    first.name = ""
    merged = tfs.ModelSpec()
    merged.CopyFrom(first)
    merged.MergeFrom(second)
    body = len_field(1, first.SerializeToString()) + len_field(1, second.SerializeToString())
    assert name_body(PREDICT, framed(body)) == expected(merged, Verb.PREDICT)


def test_the_first_spec_with_a_name_decides() -> None:
    body = len_field(1, b"\x0a\x01a") + len_field(2, b"\0" * 100) + len_field(1, b"\x0a\x01b")
    assert name_body(PREDICT, framed(body)) == Call(TFS, Verb.PREDICT, "a")


def test_within_a_spec_the_last_field_wins() -> None:
    name, label, version = len_field(1, b"b"), len_field(4, b"canary"), len_field(2, varint_field(1, 5))
    spec = len_field(1, b"a") + label + version + name
    assert name_body(PREDICT, framed(len_field(1, spec))) == Call(TFS, Verb.PREDICT, "b", "5")
    spec = name + version + label
    assert name_body(PREDICT, framed(len_field(1, spec))) == Call(TFS, Verb.PREDICT, "b", None, "canary")
    assert name_body(PREDICT, framed(len_field(1, name + len_field(2, b"")))) == Call(TFS, Verb.PREDICT, "b", "0")


def test_a_negative_version_is_refused() -> None:
    request = tfs.PredictRequest(model_spec={"name": "m", "version": {"value": -1}})
    with pytest.raises(CallError, match="model version '-1'"):
        name_body(PREDICT, request)


def test_a_spec_of_another_wire_type_is_an_unknown_field() -> None:
    body = varint_field(1, 5) + len_field(1, varint_field(1, 5) + len_field(1, b"m"))
    assert name_body(PREDICT, framed(body)) == Call(TFS, Verb.PREDICT, "m")


def test_multi_inference_is_named_by_its_first_task() -> None:
    task = tfs.InferenceTask(model_spec={"name": "m", "version": {"value": 2}, "signature_name": "s"}, method_name="x")
    request = tfs.MultiInferenceRequest(tasks=[task, task])
    assert name_body(MULTI, request) == Call(TFS, Verb.MULTI_INFERENCE, "m", "2", None, "s")
    for broken in (tfs.MultiInferenceRequest(), tfs.MultiInferenceRequest(tasks=[tfs.InferenceTask(), task])):
        with pytest.raises(CallError, match=r"^ModelSpec has no name specified"):
            name_body(MULTI, broken)


@given(st.lists(st.tuples(SPECS, st.booleans(), unknown_fields()), min_size=1, max_size=4))
def test_protobuf_merges_specs_the_same_way(parts: list[tuple[tfs.ModelSpec, bool, bytes]]) -> None:
    """The call is what protobuf reads from the message up to the first spec with a name."""
    body, merged = b"", tfs.PredictRequest()
    for spec, nameless, unknown in parts:
        if nameless:
            spec.name = ""
        part = unknown + len_field(1, spec.SerializeToString())
        body += part
        if not merged.model_spec.name:
            merged.MergeFromString(part)
    named = outcome(lambda: name_body(PREDICT, framed(body)))
    if merged.model_spec.name:
        assert named == expected(merged.model_spec, Verb.PREDICT)
    else:
        assert isinstance(named, CallError)


@given(SPECS, UNKNOWN, st.integers(0, 2**16))
def test_a_message_that_is_cut_off_is_the_same_call_or_refused(spec: tfs.ModelSpec, unknown: bytes, cut: int) -> None:
    message = unknown + len_field(1, spec.SerializeToString()) + unknown
    cut %= len(message)
    named = outcome(lambda: name_body(PREDICT, framed(message[:cut])))
    if cut >= len(message) - len(unknown):
        assert named == expected(spec, Verb.PREDICT)
    else:
        assert isinstance(named, CallError)
        assert named.reason is Reason.INVALID


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


def test_a_call_that_its_header_named_is_given_a_spec() -> None:
    call = Call(InferenceProtocol.TFS_GRPC, Verb.PREDICT, "m")
    body = framed(tfs.PredictRequest(output_filter=["y"]).SerializeToString())
    swapped = swap_body(call, body, "n", None, None, encoding="identity", limit=LIMIT)
    assert tfs.PredictRequest.FromString(swapped[5:]) == tfs.PredictRequest(
        model_spec={"name": "n"}, output_filter=["y"]
    )


def test_reading_specs_is_bounded() -> None:
    specs = len_field(1, varint_field(9, 1) * 4_000) * 10
    for verb in (Verb.PREDICT, Verb.MULTI_INFERENCE):
        with pytest.raises(CallError, match="are too large"):
            swap_body(
                Call(InferenceProtocol.TFS_GRPC, verb, "m"), framed(specs), "n", None, None, encoding="", limit=LIMIT
            )
