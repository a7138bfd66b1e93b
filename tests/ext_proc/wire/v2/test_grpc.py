"""Calls of the V2 gRPC API: where they name their model, and how they are given another one."""

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as v2

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.protobuf.fields import len_field
from tests.ext_proc.wire.messages import (
    CUTS,
    ENCODINGS,
    GOOD_NAMES,
    INFER,
    LIMIT,
    STATISTICS,
    UNKNOWN,
    VERSIONS,
    framed,
    name_body,
    name_chunks,
    swap,
    swap_body,
    unnamed,
)

V2 = InferenceProtocol.V2_GRPC
V2_METHODS: list[tuple[str, Verb, type[Message], str]] = [
    (INFER, Verb.INFER, v2.ModelInferRequest, "model_"),
    ("/inference.GRPCInferenceService/ModelStreamInfer", Verb.STREAM_INFER, v2.ModelInferRequest, "model_"),
    ("/inference.GRPCInferenceService/ModelReady", Verb.READY, v2.ModelReadyRequest, ""),
    ("/inference.GRPCInferenceService/ModelMetadata", Verb.METADATA, v2.ModelMetadataRequest, ""),
    ("/inference.GRPCInferenceService/ModelConfig", Verb.CONFIG, v2.ModelConfigRequest, ""),
    (STATISTICS, Verb.STATISTICS, v2.ModelStatisticsRequest, ""),
]


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


def test_a_stream_is_named_by_its_first_message() -> None:
    call = unnamed("/inference.GRPCInferenceService/ModelStreamInfer")
    first, second = (framed(v2.ModelInferRequest(model_name=name).SerializeToString()) for name in "ab")
    assert call.feed(first + second, False) == Call(V2, Verb.STREAM_INFER, "a")
    assert call.feed(b"whatever comes then", True) == Call(V2, Verb.STREAM_INFER, "a")


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


def test_v2_grpc_has_no_labels() -> None:
    call = Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m")
    with pytest.raises(CallError, match="no version labels, so 'canary' of 'n'") as caught:
        swap_body(call, framed(b""), "n", None, "canary", encoding="identity", limit=LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED
