"""Replies of a mix's members: read, held against each other, and combined, off the loop where they are long."""

import json
import threading
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from ext_proc.broker.plan import Candidate, How, Mix
from ext_proc.errors import CallError, Reason
from ext_proc.racing import member_replies
from ext_proc.racing.member_replies import fitting, read_member
from ext_proc.upstream.client import Response
from ext_proc.wire.call import Call, InferenceProtocol
from ext_proc.wire.outputs import decode_outputs, encode_outputs
from ext_proc.worker_thread import LONG
from mesh.protos import tfs_pb2
from tests.ext_proc.racing.scene import LIMIT, grpc_reply, held, reply_of, rest_reply

PROTOCOLS = tuple(InferenceProtocol)


async def combine(call: Call, mixed: Mix, responses: Mapping[int, Response], limit: int = LIMIT) -> Response:
    """What the shell of a race does with the replies of one mix."""
    members = mixed.members
    replies = {at: await read_member(call, members[at], each, limit) for at, each in responses.items()}
    combined: Response = await fitting(call, limit)(mixed, replies).combined()
    return combined


def outputs(protocol: InferenceProtocol, **arrays: list[float]) -> Response:
    """A reply with FP32 vectors, in the shape of each protocol."""
    if protocol is InferenceProtocol.TFS_REST:
        (values,) = arrays.values()
        return rest_reply(json.dumps({"predictions": values}).encode())
    if protocol is InferenceProtocol.V2_REST:
        listed = [
            {"name": name, "datatype": "FP32", "shape": [len(values)], "data": values}
            for name, values in arrays.items()
        ]
        return rest_reply(json.dumps({"model_name": "m", "outputs": listed}).encode())
    if protocol is InferenceProtocol.TFS_GRPC:
        reply = tfs_pb2.PredictResponse()
        for name, values in arrays.items():
            tensor = reply.outputs[name]
            tensor.dtype = tfs_pb2.DT_FLOAT
            tensor.tensor_shape.dim.add(size=len(values))
            tensor.float_val.extend(values)
        return grpc_reply(reply.SerializeToString())
    message = service_pb2.ModelInferResponse(model_name="m")
    for name, values in arrays.items():
        tensor = message.outputs.add(name=name, datatype="FP32", shape=[len(values)])
        tensor.contents.fp32_contents.extend(values)
    return grpc_reply(message.SerializeToString())


def read(protocol: InferenceProtocol, response: Response) -> list[float]:
    call = held(protocol=protocol).call
    (array,) = decode_outputs(call, {}, response.body, LIMIT).values()
    values: list[float] = array.tolist()
    return values


def mix(how: How, *weights: float) -> Mix:
    return Mix(tuple(Candidate(name, weight=weight) for name, weight in zip("ab", weights, strict=True)), how)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("mixed", "expected"),
    [(mix(How.MAX, 1, 1), [3.0, 8.0]), (mix(How.AVG, 1, 1), [2.0, 5.0]), (mix(How.AVG, 3, 1), [1.5, 6.5])],
    ids=["max", "avg", "weighted"],
)
async def test_a_mix_is_one_reply(protocol: InferenceProtocol, mixed: Mix, expected: list[float]) -> None:
    payloads = {0: outputs(protocol, y=[1.0, 8.0]), 1: outputs(protocol, y=[3.0, 2.0])}
    combined = await combine(held(protocol=protocol).call, mixed, payloads)
    assert read(protocol, combined) == expected
    assert combined.headers[0] == payloads[0].headers[0]
    assert combined.trailers == payloads[0].trailers


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_of_a_partial_mix_what_has_come(protocol: InferenceProtocol) -> None:
    payloads = {1: outputs(protocol, y=[3.0, 2.0])}
    combined = await combine(held(protocol=protocol).call, mix(How.AVG, 3, 1), payloads)
    assert read(protocol, combined) == [3.0, 2.0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_members_that_do_not_fit_are_named(protocol: InferenceProtocol) -> None:
    payloads = {0: outputs(protocol, y=[1.0, 8.0]), 1: outputs(protocol, y=[3.0])}
    with pytest.raises(CallError, match=r"member b .*shape") as unfit:
        await combine(held(protocol=protocol).call, mix(How.AVG, 1, 1), payloads)
    assert unfit.value.reason is Reason.BROKEN_MODEL


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"", b"[" * 100_000])
async def test_garbage_of_a_member_is_an_error_of_the_mix(
    protocol: InferenceProtocol, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    payloads: dict[int, Any] = {0: outputs(protocol, y=[1.0]), 1: reply_of(protocol, body)}
    with pytest.raises(CallError) as broken:
        await combine(held(protocol=protocol).call, mix(How.AVG, 1, 1), payloads)
    assert "b" in broken.value.message
    assert "mix failed" not in caplog.text, "hostile bytes are no mistake of ours"


async def test_a_packed_member_may_not_unpack_to_more_than_the_limit() -> None:
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(b'{"predictions": [' + b"1," * 50_000 + b"1]}") + packer.flush()
    payloads = {0: rest_reply(body, 200, ("content-encoding", b"gzip"))}
    call = held(protocol=InferenceProtocol.TFS_REST).call
    with pytest.raises(CallError):
        await combine(call, mix(How.AVG, 1, 1), payloads, 1000)
    combined = await combine(call, mix(How.AVG, 1, 1), payloads)
    assert dict(combined.headers).keys() == {"content-type"}
    assert len(json.loads(combined.body)["predictions"]) == 50_001


async def test_a_reply_that_cannot_be_written_again_is_an_error_of_the_mix() -> None:
    half = rest_reply(b'{"predictions": [1.0], "id": "\\ud83d"}')
    with pytest.raises(CallError, match=r"max\(a b\): .* surrogate") as broken:
        await combine(held(protocol=InferenceProtocol.TFS_REST).call, mix(How.MAX, 1, 1), {0: half, 1: half})
    assert broken.value.reason is Reason.BROKEN_MODEL


async def test_a_mistake_of_ours_is_an_error_of_the_mix(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    protocol = InferenceProtocol.TFS_GRPC
    replies = {0: outputs(protocol, y=[1.0]), 1: outputs(protocol, y=[2.0])}
    monkeypatch.setattr(member_replies, "encode_outputs", broken)
    with pytest.raises(CallError, match="ZeroDivisionError") as mistake:
        await combine(held(protocol=protocol).call, mix(How.MAX, 1, 1), replies)
    assert mistake.value.reason is Reason.INTERNAL
    assert "mix failed" in caplog.text


def packed(values: Any) -> Response:
    """A reply of TF Serving with its numbers as bytes."""
    reply, array = tfs_pb2.PredictResponse(), np.asarray(values, np.float32)
    tensor = reply.outputs["y"]
    tensor.dtype, tensor.tensor_content = tfs_pb2.DT_FLOAT, array.tobytes()
    tensor.tensor_shape.dim.add(size=len(array))
    return grpc_reply(reply.SerializeToString())


@pytest.mark.parametrize(
    ("reply", "off"),
    [
        (packed(np.zeros(LONG // 4)), True),
        (packed(np.zeros(LONG // 16)), False),
        (rest_reply(json.dumps({"predictions": [0.25] * (LONG // 64)}).encode()), True),
        (rest_reply(b'{"predictions": [0.25]}'), False),
        (rest_reply(zlib.compress(b'{"predictions": [0.25]}', wbits=31), 200, ("content-encoding", b"gzip")), True),
    ],
    ids=["long", "short", "long text", "short text", "packed"],
)
async def test_what_goes_over_many_bytes_is_done_off_the_loop(
    reply: Response, off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []

    def watched(work: Any, *args: Any) -> Any:
        threads.append(threading.current_thread() is not threading.main_thread())
        return work(*args)

    for work in (decode_outputs, encode_outputs):
        monkeypatch.setattr(member_replies, work.__name__, partial(watched, work))
    call = held(protocol=InferenceProtocol.TFS_GRPC if reply.trailers else InferenceProtocol.TFS_REST).call
    await combine(call, mix(How.AVG, 1, 1), {0: reply, 1: reply}, 8 * LONG)
    read = threads[:-1]
    assert read == [off] * 2
    if not any(key == "content-encoding" for key, _ in reply.headers):
        assert threads[-1] is off
