"""Which sequence a V2 request belongs to, over REST and gRPC, as Triton reads it."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.http import InferenceServerClient, InferInput

from ext_proc.errors import CallError, Reason
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.sequences import SequencePart, read_sequence

LIMIT = 1 << 20
REST = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
GRPC = Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m")
INPUTS = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]


def over_rest(parameters: Any, **headers: str) -> SequencePart | None:
    body = json.dumps({"id": "1", "inputs": INPUTS, "parameters": parameters}).encode()
    return read_sequence(REST, headers, body, LIMIT)


def over_grpc(*parameters: tuple[str, dict[str, Any]]) -> SequencePart | None:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\0" * 100_000])
    for name, value in parameters:
        request.parameters[name].CopyFrom(pb.InferParameter(**value))
    return read_sequence(GRPC, {}, request.SerializeToString(), LIMIT)


@pytest.mark.parametrize("identity", [1, 7, (1 << 64) - 1, "chat-9", "7", "ключ"])
def test_integers_and_texts_are_ids(identity: int | str) -> None:
    assert over_rest({"sequence_id": identity, "sequence_start": True}) == SequencePart(identity, start=True)
    kind = "string_param" if isinstance(identity, str) else "uint64_param"
    ends = ("sequence_end", {"bool_param": True})
    assert over_grpc(("sequence_id", {kind: identity}), ends) == SequencePart(identity, end=True)


def test_a_signed_number_is_the_unsigned_one_of_the_same_bits() -> None:
    assert over_grpc(("sequence_id", {"int64_param": 7})) == over_rest({"sequence_id": 7})
    assert over_grpc(("sequence_id", {"int64_param": -1})) == over_rest({"sequence_id": (1 << 64) - 1})


@pytest.mark.parametrize("identity", [0, "", "\0x", None, True, 1.5, -1, 1 << 64, [7], {"id": 7}])
def test_none_of_these_is_a_sequence(identity: Any) -> None:
    assert over_rest({"sequence_id": identity, "sequence_start": True}) is None


@pytest.mark.parametrize(
    "value", [{"int64_param": 0}, {"string_param": ""}, {"bool_param": True}, {"double_param": 7.0}, {}]
)
def test_nor_is_any_of_these_over_grpc(value: dict[str, Any]) -> None:
    assert over_grpc(("sequence_id", value)) is None
    assert over_grpc() is None


def test_flags_of_another_kind_say_nothing() -> None:
    assert over_rest({"sequence_id": 7, "sequence_start": 1, "sequence_end": "true"}) == SequencePart(7)
    flags = [("sequence_start", {"int64_param": 1}), ("sequence_end", {"bool_param": False})]
    assert over_grpc(("sequence_id", {"int64_param": 7}), *flags) == SequencePart(7)


@pytest.mark.parametrize("parameters", [None, 7, [], "x", {}, {"priority": 1}])
def test_other_parameters_are_none_of_a_sequence(parameters: Any) -> None:
    assert over_rest(parameters) is None


@pytest.mark.parametrize("body", [b"", b"{", b"no JSON", b'{"parameters": {"sequence_id": 7'])
def test_what_is_no_json_is_left_to_the_model_server(body: bytes) -> None:
    assert read_sequence(REST, {}, body, LIMIT) is None


def test_requests_of_the_clients_themselves() -> None:
    tensor = InferInput("x", [1, 2], "FP32")
    for binary in (True, False):
        tensor.set_data_from_numpy(np.zeros((1, 2), dtype=np.float32), binary_data=binary)
        made, length = InferenceServerClient.generate_request_body(
            [tensor], sequence_id=9, sequence_start=True, sequence_end=True
        )
        headers = {} if length is None else {"inference-header-content-length": str(length)}
        assert read_sequence(REST, headers, made, LIMIT) == SequencePart(9, start=True, end=True)


def test_the_json_object_is_the_first_part_of_a_binary_body() -> None:
    text = json.dumps({"parameters": {"sequence_id": 7}}).encode()
    headers = {"inference-header-content-length": str(len(text))}
    assert read_sequence(REST, headers, text + b'{"parameters"', LIMIT) == SequencePart(7)
    assert read_sequence(REST, {"inference-header-content-length": str(len(text) + 1)}, text, LIMIT) is None
    assert read_sequence(REST, {"inference-header-content-length": "x"}, text, LIMIT) is None


def test_packed_bodies_are_unpacked_within_the_limit() -> None:
    text = json.dumps({"parameters": {"sequence_id": 7}}).encode()
    assert read_sequence(REST, {"content-encoding": "gzip"}, gzip.compress(text), LIMIT) == SequencePart(7)
    with pytest.raises(CallError) as caught:
        read_sequence(REST, {"content-encoding": "gzip"}, gzip.compress(bytes(LIMIT + 1)), LIMIT)
    assert caught.value.reason is Reason.TOO_LARGE
    with pytest.raises(CallError) as caught:
        read_sequence(REST, {"content-encoding": "br"}, text, LIMIT)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_parameters_without_measure_are_refused() -> None:
    with pytest.raises(CallError, match="parameters of more than") as caught:
        read_sequence(REST, {}, json.dumps({"parameters": {"a": "x" * (1 << 20)}}).encode(), 1 << 22)
    assert caught.value.reason is Reason.INVALID
    request = pb.ModelInferRequest()
    request.parameters["a"].string_param = "x" * (1 << 20)
    with pytest.raises(CallError, match="parameters of more than"):
        read_sequence(GRPC, {}, request.SerializeToString(), 1 << 22)


def test_what_is_no_protobuf_is_refused() -> None:
    with pytest.raises(CallError) as caught:
        read_sequence(GRPC, {}, b"\x22\x05", LIMIT)
    assert caught.value.reason is Reason.INVALID


def test_tf_serving_knows_no_sequences() -> None:
    call = Call(InferenceProtocol.TFS_REST, Verb.PREDICT, "m")
    assert read_sequence(call, {}, b'{"parameters": {"sequence_id": 7}}', LIMIT) is None
