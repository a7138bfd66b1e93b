"""Calls that a node answers itself, out of a batch: which they are, and what they hold meanwhile."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from ext_proc.batching.settings import BatchingSettings, ModelBatching
from ext_proc.batching.terms import Terms
from ext_proc.errors import CallError, Reason
from ext_proc.gathering.company import wants
from ext_proc.node.policy import NodePolicy, ToGather
from ext_proc.processing.decision import Held, Hold, Pass, Respond
from ext_proc.processing.request import BodyMode, Head
from ext_proc.upstream.client import Response
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from integration.virtual_time import run
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.lease import Lease
from mesh.model_cache.manager import Manager
from mesh.residency.state import Residency
from mesh.session_claim import SessionClaim, write_claim

SHARING = {"tloc": "50;cross-request=1"}


@dataclass
class Models:
    """A model cache that holds everything, and counts."""

    held: int = 0
    suspected: int = 0
    batcher: str = ""
    node_report: "Models" = field(init=False)
    sessions: "Models" = field(init=False)

    def __post_init__(self) -> None:
        self.node_report = self.sessions = self

    def try_acquire(self, model: str, version: str | None, label: str | None) -> Lease:
        self.held += 1
        return Lease((CacheEntry(Key(model, 1), batcher=self.batcher),), self._give_back)

    def acquire_again(self, claim: SessionClaim, model: str) -> None:
        return None

    def join(self, claim: SessionClaim, lease: Lease) -> Lease:
        return lease

    def suspect_server(self) -> None:
        self.suspected += 1

    def standing(self, model: str) -> tuple[Residency, bool]:
        return Residency.AVAILABLE, False

    def _give_back(self, _: tuple[CacheEntry, ...]) -> None:
        self.held -= 1


@dataclass
class Asked:
    """A gatherer that gives one answer to all, in its time."""

    answer: Response | CallError
    seconds: float = 0.0
    settings: BatchingSettings = field(
        default_factory=lambda: BatchingSettings(models={"listed": ModelBatching(cross_request=True)})
    )
    terms: list[Terms] = field(default_factory=list)
    server_batches: bool | None = None

    def wants(self, model: str, terms: Terms) -> bool:
        return wants(self.settings, model, terms)

    async def ask(self, held: Held, terms: Terms, arrived: float, *, server_batches: bool) -> Response:
        self.terms.append(terms)
        self.server_batches = server_batches
        await asyncio.sleep(self.seconds)
        if isinstance(self.answer, CallError):
            raise self.answer
        return self.answer


OK = Response(200, (("content-type", b"application/json"),), b"{}", None)


def policy(asked: Asked | None = None, models: Models | None = None) -> NodePolicy:
    return NodePolicy(cast(Manager, models or Models()), 1 << 20, 60.0, asked or Asked(OK))


def call(model: str = "m", verb: Verb = Verb.INFER, protocol: InferenceProtocol = InferenceProtocol.V2_REST) -> Call:
    return Call(protocol, verb, model)


def head(
    headers: dict[str, str] | None = None,
    *,
    envoy: tuple[int, int] = (1, 40),
    mode: BodyMode = BodyMode.NONE,
    end: bool = False,
) -> Head:
    return Head({":path": "/v2/models/m/infer", ":method": "POST", **(headers or {})}, end, mode, envoy)


@pytest.mark.parametrize(
    ("asked", "headers", "gathered"),
    [
        (call(), SHARING, True),
        (call(), {"x-tbms-call": "50;share"}, True),
        (call("listed"), {}, True),
        (call("listed"), {"tloc": "50;cross-request=0"}, True),  # alone, but in its turn
        (call(), {}, False),
        (call(), {"tloc": "50"}, False),
        (call("listed", Verb.STATUS), {}, False),
        (call("listed", Verb.METADATA), {}, False),
        (call("listed", Verb.STREAM_INFER), {}, False),
        (call("listed"), {"x-tbms-session": write_claim(SessionClaim("0" * 32, 60, False))}, False),
    ],
)
def test_which_calls_are_gathered(asked: Call, headers: dict[str, str], gathered: bool) -> None:
    decision = policy().decide(head(headers), asked, 1.0)
    assert isinstance(decision, Hold if gathered else Pass)
    if isinstance(decision, Hold):
        assert decision.collect
        assert isinstance(decision.context, ToGather)


def test_only_where_envoy_gives_the_body_and_takes_the_answer() -> None:
    grpc = call("listed", protocol=InferenceProtocol.V2_GRPC)
    for seen, asked in (
        (head(end=True), call("listed")),
        (head(envoy=(1, 38)), call("listed")),
        (head(envoy=(1, 36), mode=BodyMode.BUFFERED), grpc),
    ):
        assert isinstance(policy().decide(seen, asked, 1.0), Pass)
    assert isinstance(policy().decide(head(envoy=(1, 36), mode=BodyMode.BUFFERED), call("listed"), 1.0), Hold)


def test_terms_that_cannot_be_read_are_refused_by_the_name_of_their_header() -> None:
    with pytest.raises(CallError, match="tloc") as caught:
        policy().decide(head({"tloc": "soon"}), call("listed"), 1.0)
    assert caught.value.reason is Reason.INVALID


def held(headers: dict[str, str] | None = None) -> Held:
    return Held(head(headers), call("listed"), (b"{}",), ToGather(Terms(), 0.0))


def test_the_model_is_leased_until_the_answer_is_here() -> None:
    async def main() -> None:
        models = Models()
        answering = asyncio.ensure_future(policy(Asked(OK, 0.02), models).resolve(held()))
        await asyncio.sleep(0.01)
        assert models.held == 1
        answer = await answering
        assert isinstance(answer, Respond)
        assert (answer.status, answer.body, models.held) == (200, b"{}", 0)

    run(main())


def test_and_no_longer_where_it_is_refused_or_the_caller_goes() -> None:
    async def main() -> None:
        models = Models()
        with pytest.raises(CallError):
            await policy(Asked(CallError(Reason.OVERLOADED, "full")), models).resolve(held())
        assert models.held == 0
        answering = asyncio.ensure_future(policy(Asked(OK, 1.0), models).resolve(held()))
        await asyncio.sleep(0.01)
        answering.cancel()
        await asyncio.wait([answering])
        assert models.held == 0

    run(main())


def test_an_edge_that_asks_is_told_the_residency_and_a_doubtful_reply_is_looked_at() -> None:
    async def main() -> None:
        models = Models()
        answer = await policy(Asked(OK), models).resolve(held({"x-tbms-residency": "?1"}))
        assert isinstance(answer, Respond)
        assert dict(answer.headers)["x-tbms-residency"].startswith(b"available")
        await policy(Asked(Response(503, (), b"", None)), models).resolve(held())
        assert models.suspected == 1

    run(main())


@pytest.mark.parametrize("batcher", ["", "dynamic_batching"])
def test_the_gatherer_is_told_whether_the_models_server_gathers(batcher: str) -> None:
    async def check() -> None:
        asked, models = Asked(OK), Models()
        models.batcher = batcher
        deciding = policy(asked, models)
        decision = deciding.decide(head(SHARING), call(), 0.0)
        assert isinstance(decision, Hold)
        await deciding.resolve(Held(head(SHARING), call(), (b"{}",), context=decision.context))
        assert asked.server_batches is bool(batcher)

    run(check())
