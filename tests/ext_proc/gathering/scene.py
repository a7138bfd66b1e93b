"""A gatherer before a scripted model server, in virtual time: it doubles what it is sent, over V2 REST in JSON."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.terms import NO_TERMS, Terms
from ext_proc.batching.waiting import Batch, Dropped
from ext_proc.gathering.batch_call import Outcome
from ext_proc.gathering.gatherer import Gatherer
from ext_proc.processing.decision import Held
from ext_proc.processing.request import BodyMode, Head
from ext_proc.telemetry.batch_log import BatchLog
from ext_proc.upstream.client import Request, Response, UpstreamError
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.trace_context import TraceContext

SECONDS = 0.020
POISON = 666.0
JSON = (("content-type", b"application/json"),)


def held(*rows: float, model: str = "m", headers: dict[str, str] | None = None, body: bytes | None = None) -> Held:
    """A call with these rows of one column."""
    content = {"inputs": [{"name": "x", "shape": [len(rows), 1], "datatype": "FP64", "data": list(rows)}]}
    path = f"/v2/models/{model}/infer"
    head = Head(
        {":path": path, ":method": "POST", ":authority": "node", "content-type": "application/json", **(headers or {})},
        end_of_stream=False,
        mode=BodyMode.FULL_DUPLEX,
    )
    text = json.dumps(content).encode() if body is None else body
    return Held(head, Call(InferenceProtocol.V2_REST, Verb.INFER, model), (text,))


def held_long(*numbers: float) -> Held:
    """A call with one row of so many numbers."""
    content = {"inputs": [{"name": "x", "shape": [1, len(numbers)], "datatype": "FP64", "data": list(numbers)}]}
    return held(body=json.dumps(content).encode())


def reply(model: str, rows: Sequence[float], width: int) -> Response:
    shape = [len(rows) // width, width]
    outputs = [{"name": "y", "datatype": "FP64", "shape": shape, "data": [2 * row for row in rows]}]
    return Response(200, JSON, json.dumps({"model_name": model, "outputs": outputs}).encode(), None)


def answer_of(response: Response) -> list[float]:
    """The rows of a reply, checked to be whole."""
    assert response.status == 200, response.body
    (output,) = json.loads(response.body)["outputs"]
    assert output["shape"] == [len(output["data"]), 1]
    rows: list[float] = output["data"]
    return rows


@dataclass
class ModelServer:
    """One batch after the other. Refuses any that holds POISON."""

    requests: list[Request] = field(default_factory=list)
    batches: list[list[float]] = field(default_factory=list)
    given_up: int = 0
    away: bool = False
    hangs: bool = False
    forgets_rows: bool = False
    minds_company: bool = False
    _device: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, request: Request) -> Response:
        self.requests.append(request)
        if self.away:
            raise UpstreamError("connection refused", refused=True)
        try:
            async with self._device:
                await asyncio.sleep(1e6 if self.hangs else SECONDS)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        body = b"".join(request.body)
        try:
            asked = json.loads(body)["inputs"][0]
        except ValueError:
            return Response(400, JSON, b'{"error":"no JSON"}', None)
        rows, width = asked["data"], (*asked["shape"], 1, 1)[1]
        self.batches.append(rows)
        if POISON in rows:
            return Response(500, JSON, b'{"error":"poisoned"}', None)
        if self.minds_company and len(rows) > 1:
            rows = [row + 0.001 for row in rows]
        return reply(request.path.split("/")[3], rows[:1] if self.forgets_rows else rows, width)


@dataclass
class Report:
    """Counts what it is told."""

    reasons: Counter[str] = field(default_factory=Counter)
    apart_for: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    refused: Counter[Dropped] = field(default_factory=Counter)
    batches: list[Batch] = field(default_factory=list)
    checks: list[bool] = field(default_factory=list)
    log: BatchLog | None = None

    def alone(self, model: str, reason: str) -> None:
        self.reasons[reason] += 1

    def apart(self, model: str, reason: str) -> None:
        self.apart_for[reason] += 1

    def sent(self, batch: Batch, waits: Sequence[float]) -> None:
        assert len(waits) == len(batch.members)
        self.batches.append(batch)

    def ended(self, batch: Batch, seconds: float, outcome: Outcome, trace: TraceContext | None = None) -> None:
        self.outcomes[outcome] += 1
        if self.log is not None:
            self.log(batch, seconds, outcome)

    def dropped(self, model: str, why: Dropped) -> None:
        self.refused[why] += 1

    def checked(self, model: str, same: bool) -> None:
        self.checks.append(same)


@dataclass
class Scene:
    gatherer: Gatherer
    server: ModelServer
    report: Report

    def ask(self, call: Held, terms: Terms = NO_TERMS) -> asyncio.Task[Response]:
        """Asks in a task of its own."""
        loop = asyncio.get_running_loop()
        return loop.create_task(self.gatherer.ask(call, terms, loop.time()))


@asynccontextmanager
async def scene(**batching: Any) -> AsyncIterator[Scene]:
    """Calls of any model share batches of up to 8 rows."""
    chance, tracer = batching.pop("chance", lambda: 0.999), batching.pop("tracer", None)
    settings = {"default": ModelBatching(cross_request=True, max_rows=8), "ahead": 0, **batching}
    server, report = ModelServer(), Report()
    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as group:
        gatherer = Gatherer(BatchingSettings(**settings), server, report, clock, chance, group=group, tracer=tracer)
        try:
            yield Scene(gatherer, server, report)
            scheduler = gatherer.scheduler
            assert (scheduler.calls, scheduler.bytes, list(scheduler.queued())) == (0, 0, [])
        finally:
            gatherer.stop()
