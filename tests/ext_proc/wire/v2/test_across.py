"""Calls over REST with binary data, as calls over gRPC: one key for what both say alike; everything else is apart."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as v2

from ext_proc.wire.batch import Member, ReplyMismatch
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.codecs import CODECS
from ext_proc.wire.v2.across import Apart, Crossing, crossing, rest_reply
from ext_proc.wire.v2.rest_outputs import HEADER
from mesh.protos import tfs_pb2 as tfs
from mesh.tensors import tf as tf_tensors
from mesh.tensors.v2 import to_raw
from tests.ext_proc.wire.arrays import TFS_GRPC, TFS_REST, V2_GRPC, V2_REST
from tests.ext_proc.wire.batching import Calls, calls_of, read
from tests.ext_proc.wire.v2 import test_grpc_batch as over_grpc

REST, GRPC = CODECS[InferenceProtocol.V2_REST].batches, CODECS[InferenceProtocol.V2_GRPC].batches
BINARY = {"binary_data_output": True}
X = np.array([[1, 2]], np.float32)


def rest_member(asked: dict[str, Any], *blobs: bytes, call: Call = V2_REST, **headers: str) -> Member:
    head = json.dumps(asked, ensure_ascii=False).encode()
    told = {HEADER: str(len(head))} if blobs else {}
    return read(REST, call, ({**told, **headers}, b"".join([head, *blobs])))


def sized(name: str = "x", array: Any = X, datatype: str = "FP32") -> dict[str, Any]:
    parameters = {"binary_data_size": len(to_raw(array))}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters}


def crossed(call: Call, member: Member) -> Crossing:
    found = crossing(call, member)
    assert isinstance(found, Crossing), found
    return found


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)


@given(calls_of(names=NAMES), st.booleans(), st.data())
def test_both_protocols_are_one_batch_and_get_their_own_replies(calls: Calls, named: bool, data: st.DataObject) -> None:
    dtypes = {each.name: each.dtype for each in calls.inputs}
    outputs = [{"name": name} for name in dtypes] if named else []
    batch, alone = [], []
    for at, arrays in enumerate(calls.calls):
        its_id = f"é {at}" if at else ""
        if data.draw(st.booleans()):
            made = over_grpc.request(arrays, False, dtypes, id=its_id, outputs=outputs)
            batch.append(crossed(V2_GRPC, read(GRPC, V2_GRPC, ({}, made.SerializeToString()))))
            alone.append(None)
        else:
            asked: dict[str, Any] = {"id": its_id} if its_id else {}
            asked["inputs"] = [sized(name, array, dtypes[name].v2) for name, array in arrays.items()]
            if named:
                asked["outputs"] = [{**each, "parameters": {"binary_data": True}} for each in outputs]
            else:
                asked["parameters"] = BINARY
            batch.append(crossed(V2_REST, rest_member(asked, *map(to_raw, arrays.values()))))
            alone.append(over_grpc.request(arrays, False, dtypes, id=its_id, outputs=outputs).SerializeToString())
    assert len({each.member.key for each in batch}) == 1
    assert {each.call for each in batch} == {V2_GRPC}
    members = [each.member for each in batch]
    merged = over_grpc.server({}, GRPC.merge(members).body)
    for part, member, request in zip(GRPC.cut({}, merged.body, members), members, alone, strict=True):
        reply = v2.ModelInferResponse.FromString(part.body)
        assert reply.id == member.id.decode()
        if request is not None:  # what the same call gets over gRPC
            assert part == over_grpc.server({}, request)


def test_packings_that_clients_take_do_not_part_them() -> None:
    made = over_grpc.raw(1)
    keys = {
        crossed(V2_GRPC, read(GRPC, V2_GRPC, (headers, made.SerializeToString()))).member.key
        for headers in ({}, {"grpc-accept-encoding": "gzip"})
    }
    asked = {"parameters": BINARY, "inputs": [sized()]}
    keys |= {
        crossed(V2_REST, rest_member(asked, X.tobytes(), **headers)).member.key
        for headers in ({}, {"accept-encoding": "gzip"})
    }
    assert len(keys) == 1


def test_versions_part_them() -> None:
    call = Call(InferenceProtocol.V2_REST, Verb.INFER, "m", "3")
    asked = {"parameters": BINARY, "inputs": [sized()]}
    found = crossed(call, rest_member(asked, X.tobytes(), call=call))
    assert found.call.version == "3"
    message = v2.ModelInferRequest.FromString(GRPC.merge([found.member]).body)
    assert (message.model_name, message.model_version) == ("m", "3")
    over = over_grpc.raw(1, model_version="3").SerializeToString()
    native = Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m", "3")
    assert crossed(native, read(GRPC, native, ({}, over))).member.key == found.member.key


ASKED: dict[str, Any] = {"parameters": BINARY, "inputs": [sized()]}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (ASKED | {"parameters": {}}, Apart.JSON_DATA),
        (ASKED | {"parameters": {"binary_data_output": False}}, Apart.JSON_DATA),
        (ASKED | {"outputs": [{"name": "y", "parameters": {"binary_data": False}}]}, Apart.JSON_DATA),
        (ASKED | {"parameters": {}, "outputs": [{"name": "y"}]}, Apart.JSON_DATA),
        (ASKED | {"parameters": BINARY | {"p": 1}}, Apart.SAYS_MORE),
        (ASKED | {"more": 1}, Apart.SAYS_MORE),
        (ASKED | {"outputs": [{"name": "y", "parameters": {"q": 1}}]}, Apart.SAYS_MORE),
        (ASKED | {"outputs": [{"name": "y", "more": 1}]}, Apart.SAYS_MORE),
        (ASKED | {"inputs": [sized() | {"parameters": {"binary_data_size": 8, "q": 1}}]}, Apart.SAYS_MORE),
    ],
)
def test_what_rest_says_otherwise_is_apart(asked: dict[str, Any], reason: Apart) -> None:
    assert crossing(V2_REST, rest_member(asked, X.tobytes())) is reason


def test_a_dimension_that_grpc_cannot_hold_is_apart() -> None:
    for size in (1 << 63, 1 << 80):
        tensor = {"name": "x", "shape": [1, 0, size], "datatype": "FP32", "parameters": {"binary_data_size": 0}}
        head = json.dumps({"parameters": BINARY, "inputs": [tensor]}).encode()
        member = read(REST, V2_REST, ({HEADER: str(len(head))}, head))
        assert crossing(V2_REST, member) is Apart.SAYS_MORE


def test_json_data_are_apart() -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    assert crossing(V2_REST, rest_member({"parameters": BINARY, "inputs": [tensor]})) is Apart.JSON_DATA


def test_what_grpc_says_otherwise_is_apart() -> None:
    typed = v2.ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", datatype="FP32", shape=[1, 2], contents={"fp32_contents": [1, 2]})
    more, inner = over_grpc.raw(1), over_grpc.raw(1)
    more.parameters["p"].int64_param = 1
    inner.inputs[0].parameters["p"].int64_param = 1
    for made, reason in ((typed, Apart.TYPED_CONTENTS), (more, Apart.SAYS_MORE), (inner, Apart.SAYS_MORE)):
        assert crossing(V2_GRPC, read(GRPC, V2_GRPC, ({}, made.SerializeToString()))) is reason


def test_tf_serving_is_apart() -> None:
    made = tfs.PredictRequest(model_spec={"name": "m"}, inputs={"x": tf_tensors.encode(X)})
    found = [(TFS_GRPC, made.SerializeToString()), (TFS_REST, b'{"instances":[[1,2]]}')]
    for call, body in found:
        assert crossing(call, read(CODECS[call.protocol].batches, call, ({}, body))) is Apart.PROTOCOL


def reply(**fields: Any) -> v2.ModelInferResponse:
    made = v2.ModelInferResponse(model_name="m", model_version="3", **fields)
    made.outputs.add(name='y"é', datatype="FP32", shape=[1, 2])
    made.raw_output_contents.append(X.tobytes())
    return made


def test_a_reply_is_written_as_triton_writes_it() -> None:
    written = rest_reply(reply(id="a\n").SerializeToString())
    head = (
        '{"id":"a\\n","model_name":"m","model_version":"3","outputs":[{"name":"y\\"é","datatype":"FP32","shape":[1,2],'
        '"parameters":{"binary_data_size":8}}]}'
    ).encode()
    assert written.body == head + X.tobytes()
    assert written.headers == (("content-type", "application/octet-stream"), (HEADER, str(len(head))))


def test_a_reply_that_rest_may_say_otherwise() -> None:
    typed, more, empty = v2.ModelInferResponse(), reply(), v2.ModelInferResponse(raw_output_contents=[b""])
    typed.outputs.add(name="y", datatype="FP32", shape=[1, 2], contents={"fp32_contents": [1, 2]})
    more.parameters["p"].int64_param = 1
    empty.outputs.add(name="y", datatype="FP32", shape=[1, 0])
    for made in (typed, more, empty, v2.ModelInferResponse(model_name="m")):
        with pytest.raises(ReplyMismatch):
            rest_reply(made.SerializeToString())
    with pytest.raises(ReplyMismatch, match="cannot be written for REST"):
        rest_reply(b"\xff")
