"""What a race's shell is tested with: an upstream that follows a script, and everything around it, in virtual time."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.estimates import Estimates
from ext_proc.broker.plan import Candidate, Plan, RankedTarget
from ext_proc.broker.race import Race
from ext_proc.broker.settings import BrokerSettings
from ext_proc.contract import MODEL_HEADER
from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Held, Lease
from ext_proc.processing.request import BodyMode, Head
from ext_proc.racing.candidate_request import Candidates
from ext_proc.racing.race_runner import RaceRunner
from ext_proc.racing.sending import Sender
from ext_proc.tracing.tracer import Tracer
from ext_proc.upstream.client import Request, Response
from ext_proc.upstream.hop_mark import HopMark
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from mesh.residency.cache_map import CacheMap
from mesh.residency.hints import ReplyHints
from mesh.routing.placement import RESIDENT, ExpectedWait

LIMIT = 1 << 20
NODE = "10.0.0.1:8501"


def rest_reply(body: bytes = b"{}", status: int = 200, *headers: tuple[str, bytes]) -> Response:
    return Response(status, (("content-type", b"application/json"), *headers), body, None, node=NODE)


def grpc_reply(body: bytes = b"message", status: int = 0, *trailers: tuple[str, bytes]) -> Response:
    headers = (("x-initial", b"1"), ("x-initial-bin", b"AAEC"))
    return Response(200, headers, body, (("grpc-status", b"%d" % status), *trailers), status, NODE)


def reply_of(protocol: InferenceProtocol, body: bytes) -> Response:
    return grpc_reply(body) if protocol.is_grpc else rest_reply(body)


def held(
    model: str = "bert", protocol: InferenceProtocol = InferenceProtocol.TFS_REST, body: bytes = b"{}", **headers: str
) -> Held:
    """A collected call. Underscores in the names of headers stand for dashes."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    path = {
        InferenceProtocol.TFS_REST: f"/v1/models/{model}:predict",
        InferenceProtocol.V2_REST: f"/v2/models/{model}/infer",
        InferenceProtocol.TFS_GRPC: "/tensorflow.serving.PredictionService/Predict",
        InferenceProtocol.V2_GRPC: "/inference.GRPCInferenceService/ModelInfer",
    }[protocol]
    own = {":method": "POST", ":path": path, ":authority": "models.local", ":scheme": "http"}
    verb = Verb.INFER if protocol in (InferenceProtocol.V2_GRPC, InferenceProtocol.V2_REST) else Verb.PREDICT
    return Held(Head(own | named, False, BodyMode.FULL_DUPLEX), Call(protocol, verb, model), (body,))


def plan(*candidates: str | RankedTarget, limit_ms: float = 50, **more: Any) -> Plan:
    """Candidates by name, with an estimate of 10 ms each."""
    ranks = tuple(Candidate(one, estimate_ms=10) if isinstance(one, str) else one for one in candidates)
    return Plan("bert", ranks, limit_ms, **more)


@dataclass
class Script:
    """How calls to one model go: after `seconds` (None: never), with `end`: a response, or an error to raise.

    `stubborn` is how long a call takes to give up once it is cancelled.
    """

    seconds: float | None = 0.0
    end: Response | Exception = field(default_factory=rest_reply)
    stubborn: float = 0.0


class Scripted:
    """An upstream by script; keeps what was sent, and which calls are running."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self.scripts = scripts
        self.sent: list[tuple[float, Request]] = []
        self.running: list[str] = []
        self.cancelled: list[str] = []

    async def call(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), request))
        model = dict(request.headers)[MODEL_HEADER].decode()
        script = self.scripts[model]
        self.running.append(model)
        try:
            if script.seconds is None:
                await asyncio.Event().wait()
            await asyncio.sleep(script.seconds or 0)
        except asyncio.CancelledError:
            self.cancelled.append(model)
            if script.stubborn:
                await asyncio.sleep(script.stubborn)
            raise
        finally:
            self.running.remove(model)
        if isinstance(script.end, Exception):
            raise script.end
        return replace(script.end)

    def starts(self) -> dict[str, float]:
        """When each model was asked, in seconds."""
        return {dict(request.headers)[MODEL_HEADER].decode(): at for at, request in self.sent}


class Nodes:
    """One node for everything, the lease on it, and the account of what is on its way there."""

    def __init__(self, wait_of: Callable[[str], ExpectedWait] = lambda _: RESIDENT) -> None:
        self.wait_of = wait_of
        self.load = 0
        self.dead = False
        self.far: list[str] = []
        self.near = True
        self.limits: list[float] = []

    def place(
        self,
        call: Call,
        model: str,
        now: float,
        node_id: str | None = None,
        limit: float = math.inf,
        without: Collection[str] = (),
    ) -> tuple[tuple[str, ...], Lease, ExpectedWait]:
        if self.dead:
            raise CallError(Reason.UNAVAILABLE, "No model server is alive.")
        self.load += 1
        self.limits.append(limit)
        if self.far:
            far = [each for each in self.far if each not in without]
            if not far and not self.near:
                self.load -= 1
                raise CallError(Reason.UNAVAILABLE, "No model server is alive.")
            if far:
                return (f"@{far[0]}",), self, self.wait_of(model)
        return (NODE, "10.0.0.2:8501") if node_id is None else (node_id,), self, self.wait_of(model)

    def expected_wait(
        self, call: Call, model: str, now: float, node_id: str | None = None, limit: float = math.inf
    ) -> ExpectedWait:
        return self.wait_of(model)

    def release(self) -> None:
        self.load -= 1


def heard() -> ReplyHints:
    """Every node tells what it holds by a stream of its own."""
    return ReplyHints(CacheMap(), 10.0)


@dataclass
class Scene:
    """A race runner and what it works with."""

    race_runner: RaceRunner
    upstream: Scripted
    nodes: Nodes
    estimates: Estimates
    budget: TokenBucket
    reports: list[tuple[Race, Held]]
    outcomes: list[tuple[str, str | None]]


@asynccontextmanager
async def scene(
    margin_ms: float = 2.0,
    wait_of: Callable[[str], ExpectedWait] = lambda _: RESIDENT,
    tracer: Tracer | None = None,
    **scripts: Script,
) -> AsyncIterator[Scene]:
    """For the length of a block; at its end every call on the wire must be over by itself or by its race."""
    upstream, nodes, reports = Scripted(scripts), Nodes(wait_of), []
    outcomes: list[tuple[str, str | None]] = []
    estimates, budget = Estimates(BrokerSettings()), TokenBucket(0.2, 500.0)
    candidates = Candidates(nodes, HopMark("0" * 32), heard(), lambda: LIMIT)
    async with asyncio.TaskGroup() as group:
        clock = asyncio.get_running_loop().time
        race_runner = RaceRunner(
            group,
            Sender(candidates, upstream, clock, lambda node_id, cause: outcomes.append((node_id, cause))),
            candidates,
            estimates,
            budget,
            margin_ms,
            lambda race, held: reports.append((race, held)),
            (f"r{count}" for count in itertools.count()),
            clock,
            tracer,
        )
        yield Scene(race_runner, upstream, nodes, estimates, budget, reports, outcomes)
