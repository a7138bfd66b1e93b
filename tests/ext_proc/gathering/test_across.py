"""Calls over REST and over gRPC in one batch: each is answered in its own protocol, and errors, too."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as v2

from ext_proc.batching.settings import BatchingSettings, InputPadding, ModelBatching, PaddedOutput
from ext_proc.batching.terms import NO_TERMS
from ext_proc.errors import CallError, Reason
from ext_proc.gathering.gatherer import Gatherer
from ext_proc.grpc_status import GrpcStatus
from ext_proc.processing.decision import Held
from ext_proc.processing.request import BodyMode, Head
from ext_proc.upstream.client import Request, Response
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from ext_proc.wire.v2.rest_outputs import HEADER
from integration.virtual_time import run
from tests.ext_proc.gathering.scene import SECONDS, Report
from tests.ext_proc.wire.v2 import test_grpc_batch as over_grpc

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class ModelServer:
    """Says what it is sent, one call after the other; `error` is what it says instead over gRPC."""

    requests: list[Request] = field(default_factory=list)
    error: Response | None = None
    _device: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, request: Request) -> Response:
        self.requests.append(request)
        async with self._device:
            await asyncio.sleep(SECONDS)
        body, headers = b"".join(request.body), {key: value.decode() for key, value in request.headers}
        if not request.is_grpc:
            return _over_rest(headers, body)
        assert (request.path, headers["content-type"]) == (GRPC_PATH, "application/grpc")
        if self.error is not None:
            return self.error
        reply = v2.ModelInferResponse.FromString(over_grpc.server({}, body).body)
        reply.ClearField("parameters")
        for output in reply.outputs:
            output.ClearField("parameters")
        return Response(200, (("content-type", b"application/grpc"),), reply.SerializeToString(), ())


def _over_rest(headers: Mapping[str, str], body: bytes) -> Response:
    size = int(headers.get(HEADER, len(body)))
    asked = json.loads(body[:size])
    head = json.dumps({"id": asked.get("id"), "outputs": asked["inputs"]}).encode()
    told = (("content-type", b"application/octet-stream"), (HEADER, str(len(head)).encode()))
    return Response(200, told, head + body[size:], None)


def rest(*rows: list[float], its_id: str = "") -> Held:
    array = np.array(rows, np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
    head = json.dumps({"id": its_id, "parameters": {"binary_data_output": True}, "inputs": [tensor]}).encode()
    headers = {"content-type": "application/octet-stream", HEADER: str(len(head)), "accept": "*/*"}
    call = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
    return Held(_head("/v2/models/m/infer", headers), call, (head + array.tobytes(),))


def grpc(*rows: list[float]) -> Held:
    array = np.array(rows, np.float32)
    made = v2.ModelInferRequest(model_name="m", raw_input_contents=[array.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=array.shape)
    call = Call(InferenceProtocol.V2_GRPC, Verb.INFER, "m")
    message = made.SerializeToString()
    return Held(_head(GRPC_PATH, {"content-type": "application/grpc"}), call, (), message=message)


def _head(path: str, headers: Mapping[str, str]) -> Head:
    given = {":path": path, ":method": "POST", ":authority": "node", **headers}
    return Head(given, end_of_stream=False, mode=BodyMode.FULL_DUPLEX)


def rest_rows(response: Response) -> Any:
    """The rows of a reply over REST, and its id, checked to be whole."""
    headers = dict(response.headers)
    assert (response.status, response.trailers, headers["content-type"]) == (200, None, b"application/octet-stream")
    size = int(headers[HEADER])
    told = json.loads(response.body[:size])
    (output,) = told["outputs"]
    return told.get("id"), np.frombuffer(response.body[size:], np.float32).reshape(output["shape"]).tolist()


def grpc_rows(response: Response) -> Any:
    assert response.trailers is not None
    reply = v2.ModelInferResponse.FromString(response.body)
    return np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(reply.outputs[0].shape).tolist()


def playing(
    play: Callable[[Callable[[Held], asyncio.Task[Response]], ModelServer, Report], Awaitable[None]], **model: Any
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, report = ModelServer(), Report()
        settings = ModelBatching(cross_request=True, share_protocols=True, **{"max_rows": 8, **model})
        batching = BatchingSettings(models={"m": settings}, ahead=0, check_share=0)
        async with asyncio.TaskGroup() as group:
            gatherer = Gatherer(batching, server, report, loop.time, group=group)
            await play(lambda held: loop.create_task(gatherer.ask(held, NO_TERMS, loop.time())), server, report)
            gatherer.stop()

    run(main())


Ask = Callable[[Held], asyncio.Task[Response]]


def test_each_is_answered_in_its_own_protocol() -> None:
    async def play(ask: Ask, server: ModelServer, report: Report) -> None:
        calls = [ask(rest([0.0])), ask(rest([1.0], [2.0], its_id="é")), ask(grpc([3.0])), ask(rest([4.0]))]
        first, second, third, fourth = [await call for call in calls]
        assert [rest_rows(one) for one in (first, second, fourth)] == [
            ("", [[0.0]]),  # alone, as it came
            ("é", [[1.0], [2.0]]),
            (None, [[4.0]]),
        ]
        assert grpc_rows(third) == [[3.0]]
        assert [request.is_grpc for request in server.requests] == [False, True]

    playing(play)


def test_calls_over_rest_alone_cross_as_well() -> None:
    async def play(ask: Ask, server: ModelServer, report: Report) -> None:
        calls = [ask(rest([float(number)])) for number in range(4)]
        assert [rest_rows(await call)[1] for call in calls] == [[[float(number)]] for number in range(4)]
        assert [request.is_grpc for request in server.requests] == [False, True]
        assert "accept" not in dict(server.requests[1].headers)

    playing(play)


def test_a_call_of_many_rows_is_asked_in_pieces_and_padded_ones_are_cut_back() -> None:
    async def play(ask: Ask, server: ModelServer, report: Report) -> None:
        rows = [[float(number)] for number in range(5)]
        assert rest_rows(await ask(rest(*rows, its_id="a"))) == ("a", rows)
        assert [request.is_grpc for request in server.requests] == [True, True, True]

    playing(play, max_rows=2)
    padding = InputPadding(input="x", buckets=(3,), outputs=(PaddedOutput(name="x"),))
    playing(play, max_rows=2, pad=(padding,))


@pytest.mark.parametrize(
    ("status", "sent"), [(GrpcStatus.UNAVAILABLE, [False, True]), (GrpcStatus.INTERNAL, [False, True, False, True])]
)
def test_a_batch_that_fails_is_an_error_in_each_protocol(status: GrpcStatus, sent: list[bool]) -> None:
    """One that members may be to blame for is asked again, each in its own protocol."""

    async def play(ask: Ask, server: ModelServer, report: Report) -> None:
        trailers = (("grpc-status", b"%d" % status), ("grpc-message", b"no such thing"))
        server.error = Response(200, (), b"", trailers, grpc_status=status)
        calls = [ask(rest([0.0])), ask(rest([1.0])), ask(grpc([2.0]))]
        await calls[0]
        answers = await asyncio.gather(*calls[1:], return_exceptions=True)
        assert answers[1] is server.error
        if status is GrpcStatus.UNAVAILABLE:
            assert isinstance(answers[0], CallError)
            assert answers[0].reason is Reason.UNAVAILABLE
            assert "no such thing" in answers[0].message
        else:
            assert isinstance(answers[0], Response)
            assert rest_rows(answers[0])[1] == [[1.0]]
        assert [request.is_grpc for request in server.requests] == sent

    playing(play)


def test_what_is_apart_is_told() -> None:
    async def play(ask: Ask, server: ModelServer, report: Report) -> None:
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0]}
        call = Call(InferenceProtocol.V2_REST, Verb.INFER, "m")
        await ask(Held(_head("/v2/models/m/infer", {}), call, (json.dumps({"inputs": [tensor]}).encode(),)))
        assert report.apart_for == {"json-data": 1}
        assert not report.reasons

    playing(play)
