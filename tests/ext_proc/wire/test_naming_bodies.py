"""Naming by the body of a gRPC call, in whatever chunks and with whatever fields it comes."""

import gzip
import tracemalloc

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as v2

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.protobuf.fields import len_field, varint, varint_field
from mesh.protos import tfs_pb2 as tfs
from tests.ext_proc.wire.messages import (
    CUTS,
    ENCODINGS,
    GOOD_NAMES,
    LIMIT,
    SPECS,
    UNKNOWN,
    VERSIONS,
    framed,
    name_body,
    name_chunks,
    outcome,
    unknown_fields,
    unnamed,
)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MULTI = "/tensorflow.serving.PredictionService/MultiInference"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STATISTICS = "/inference.GRPCInferenceService/ModelStatistics"
TFS, V2 = InferenceProtocol.TFS_GRPC, InferenceProtocol.V2_GRPC

TFS_METHODS: list[tuple[str, Verb, type[Message]]] = [
    (PREDICT, Verb.PREDICT, tfs.PredictRequest),
    ("/tensorflow.serving.PredictionService/Classify", Verb.CLASSIFY, tfs.ClassificationRequest),
    ("/tensorflow.serving.PredictionService/Regress", Verb.REGRESS, tfs.RegressionRequest),
    ("/tensorflow.serving.PredictionService/GetModelMetadata", Verb.METADATA, tfs.GetModelMetadataRequest),
    ("/tensorflow.serving.ModelService/GetModelStatus", Verb.STATUS, tfs.GetModelStatusRequest),
    ("/tensorflow.serving.SessionService/SessionRun", Verb.SESSION_RUN, tfs.SessionRunRequest),
]
V2_METHODS: list[tuple[str, Verb, type[Message], str]] = [
    (INFER, Verb.INFER, v2.ModelInferRequest, "model_"),
    ("/inference.GRPCInferenceService/ModelStreamInfer", Verb.STREAM_INFER, v2.ModelInferRequest, "model_"),
    ("/inference.GRPCInferenceService/ModelReady", Verb.READY, v2.ModelReadyRequest, ""),
    ("/inference.GRPCInferenceService/ModelMetadata", Verb.METADATA, v2.ModelMetadataRequest, ""),
    ("/inference.GRPCInferenceService/ModelConfig", Verb.CONFIG, v2.ModelConfigRequest, ""),
    (STATISTICS, Verb.STATISTICS, v2.ModelStatisticsRequest, ""),
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


@pytest.mark.parametrize(("path", "verb", "kind", "prefix"), V2_METHODS)
def test_every_v2_request_names_its_model(path: str, verb: Verb, kind: type[Message], prefix: str) -> None:
    assert name_body(path, kind(**{f"{prefix}name": "m"})) == Call(V2, verb, "m")
    assert name_body(path, kind(**{f"{prefix}name": "m", f"{prefix}version": "3"})) == Call(V2, verb, "m", "3")
    with pytest.raises(CallError, match="model version 'x'"):
        name_body(path, kind(**{f"{prefix}name": "m", f"{prefix}version": "x"}))


def test_a_v2_request_without_a_name() -> None:
    with pytest.raises(CallError, match=r"^Request for unknown model: '' is not found") as caught:
        name_body(INFER, v2.ModelInferRequest(model_version="3"))
    assert caught.value.reason is Reason.INVALID


def test_the_statistics_of_all_models_need_no_name() -> None:
    assert name_body(STATISTICS, v2.ModelStatisticsRequest()) is None


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


@given(GOOD_NAMES, st.none() | VERSIONS, st.binary(max_size=2000), CUTS, ENCODINGS)
def test_a_v2_name_is_found_however_it_arrives(
    name: str, version: int | None, tensor: bytes, cuts: list[int], encoding: str
) -> None:
    request = v2.ModelInferRequest(model_name=name, raw_input_contents=[tensor])
    if version is not None:
        request.model_version = str(version)
    body = framed(request.SerializeToString(), encoding)
    call = Call(V2, Verb.INFER, name, request.model_version or None)
    assert name_chunks(unnamed(INFER, encoding), body, cuts) == call
    assert name_chunks(unnamed(INFER, encoding), body, list(range(min(len(body), 3000)))) == call


def test_v2_fields_in_another_order() -> None:
    version, name, tensor = len_field(2, b"3"), len_field(1, b"m"), len_field(7, b"\0" * 100)
    assert name_body(INFER, framed(tensor + version + name)) == Call(V2, Verb.INFER, "m", "3")
    assert name_body(INFER, framed(name + version + tensor)) == Call(V2, Verb.INFER, "m", "3")
    assert name_body(INFER, framed(name + len_field(1, b"n") + tensor)) == Call(V2, Verb.INFER, "n")
    assert name_body(INFER, framed(name + tensor + version)) == Call(V2, Verb.INFER, "m"), "named before the tensor"


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


def test_a_stream_is_named_by_its_first_message() -> None:
    call = unnamed("/inference.GRPCInferenceService/ModelStreamInfer")
    first, second = (framed(v2.ModelInferRequest(model_name=name).SerializeToString()) for name in "ab")
    assert call.feed(first + second, False) == Call(V2, Verb.STREAM_INFER, "a")
    assert call.feed(b"whatever comes then", True) == Call(V2, Verb.STREAM_INFER, "a")


@pytest.mark.parametrize("name", [b"", b"..", b"a/b", b"a\nb", b"\xff", b"x" * 256])
@pytest.mark.parametrize("path", [PREDICT, INFER])
def test_a_bad_name_in_a_body(path: str, name: bytes) -> None:
    field = len_field(1, name)
    with pytest.raises(CallError) as caught:
        name_body(path, framed(field if path == INFER else len_field(1, field)))
    assert caught.value.reason is Reason.INVALID


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "ends before a message"),
        (b"\0\0\0", "ends before the head"),
        (b"\0\0\0\0\x0a\x0a", "ends after 1 of the 10 bytes"),
        (b"\x02\0\0\0\0", "flag byte 2"),
        (b"\x80\0\0\0\0", "flag byte 128"),
        (framed(b"\x12"), "cut off at byte 1"),
        (framed(b"\x12\x05ab"), "field 2 runs past the end of the message at byte 0"),
        (framed(b"\x12\xff\xff\xff\xff\x7f"), "field 2 runs past the end"),
        (framed(b"\x0a\x03\x0a\x05a"), "field 1 is cut off at byte 0"),
        (framed(b"\x0b"), "cut off"),
        (framed(b"\x0c"), "a group ends that was not begun at byte 0"),
        (framed(b"\x1b\x24"), "a group ends that was not begun at byte 1"),
        (framed(b"\x1b" * 101), "nested too deep"),
        (framed(b"\x02\x00"), "impossible field number"),
        (framed(b"\x0e"), "impossible wire type 6"),
        (framed(b"\x0f"), "impossible wire type 7"),
        (framed(b"\x80" * 10 + b"\x01"), "more than ten bytes at byte 0"),
        (framed(b"\xff\xff\xff\xff\xff\x01"), "impossible field number"),
        (framed(len_field(1, b"\x1b" * 200)), "nested too deep"),
        (framed(len_field(1, bytes(16_385))), "too large to name a model"),
        (framed(len_field(1, len_field(9, bytes(6_000))) * 3), "too large to name a model at byte 12"),
        (framed(b"\x10\x01" * 16_385), "more than 16384 fields at byte 32768"),
        (framed(b"\x1b" + b"\x10\x01" * 16_384), "more than 16384 fields at byte 32767"),
        (framed(len_field(1, b"\x28\x01" * 8_000)), "no name specified"),
    ],
)
def test_a_malformed_body_says_where(body: bytes, says: str) -> None:
    for cuts in ([], list(range(len(body)))):
        with pytest.raises(CallError) as caught:
            name_chunks(unnamed(PREDICT), body, cuts)
        assert caught.value.reason is Reason.INVALID
        assert says in caught.value.message


def test_a_message_over_the_limit_is_refused_by_its_head() -> None:
    call = unnamed(PREDICT, limit=1000)
    assert call.feed(b"\0\0\0\x03", False) is None
    with pytest.raises(CallError, match="1001 bytes against 1000") as caught:
        call.feed(b"\xe9", False)
    assert caught.value.reason is Reason.TOO_LARGE


def test_what_a_bomb_unpacks_to_is_bounded() -> None:
    bomb = gzip.compress(len_field(2, bytes(64 * LIMIT)) + len_field(1, len_field(1, b"m")))
    body = b"\1" + len(bomb).to_bytes(4, "big") + bomb
    tracemalloc.start()
    with pytest.raises(CallError, match="larger than the limit") as caught:
        name_body(PREDICT, body, "gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE
    assert peak < LIMIT


def test_a_large_tensor_before_the_spec_is_not_kept() -> None:
    size, chunk = 64 << 20, bytes(1 << 16)
    call = unnamed(PREDICT, limit=size + 100)
    tail = len_field(1, len_field(1, b"m"))
    head = varint(2 << 3 | 2) + varint(size)
    tracemalloc.start()
    assert call.feed(b"\0" + (len(head) + size + len(tail)).to_bytes(4, "big") + head, False) is None
    for _ in range(size // len(chunk)):
        assert call.feed(chunk, False) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert call.feed(tail, True) == Call(TFS, Verb.PREDICT, "m")
    assert peak < 1 << 17


@pytest.mark.parametrize(
    ("encoding", "reason", "says"),
    [
        ("snappy", Reason.UNSUPPORTED, "'snappy' is not supported"),
        ("identity", Reason.INVALID, "its encoding names none"),
        (None, Reason.INVALID, "its encoding names none"),
        ("gzip", Reason.INVALID, "gzip data of the message is malformed"),
        ("deflate", Reason.INVALID, "deflate data of the message is malformed"),
    ],
)
def test_compression_that_cannot_be(encoding: str | None, reason: Reason, says: str) -> None:
    with pytest.raises(CallError) as caught:
        name_body(PREDICT, b"\1\0\0\0\x08notgzip!", encoding)
    assert caught.value.reason is reason
    assert says in caught.value.message


def test_compressed_data_has_one_end() -> None:
    packed = gzip.compress(len_field(2, b"x"))
    for broken, says in ((packed[:-4], "is cut off"), (packed + b"more", "has bytes after its end")):
        with pytest.raises(CallError, match=says):
            name_body(PREDICT, b"\1" + len(broken).to_bytes(4, "big") + broken, "gzip")


def test_a_message_that_is_not_compressed_may_come_in_a_compressed_call() -> None:
    request = tfs.PredictRequest(model_spec={"name": "m"})
    assert name_body(PREDICT, framed(request.SerializeToString()), "gzip") == Call(TFS, Verb.PREDICT, "m")


BODIES = st.binary(max_size=200) | st.binary(max_size=200).map(framed) | UNKNOWN.map(framed)


@settings(max_examples=500)
@given(st.sampled_from([PREDICT, MULTI, INFER, STATISTICS]), BODIES, CUTS, ENCODINGS)
def test_any_bytes_are_a_call_or_a_clear_error(path: str, body: bytes, cuts: list[int], encoding: str) -> None:
    whole = outcome(lambda: name_body(path, body, encoding))
    chunked = outcome(lambda: name_chunks(unnamed(path, encoding), body, cuts))
    if isinstance(whole, CallError):
        assert whole.message.isprintable()
        assert isinstance(chunked, CallError)
        assert chunked.reason is whole.reason
    else:
        assert chunked == whole


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
