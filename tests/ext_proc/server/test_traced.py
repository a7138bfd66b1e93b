"""The span of a call: which have one, whose child it is, what it says, and that every one of them ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from ext_proc.errors import CallError, Reason
from ext_proc.processing.decision import Decision, Held, Hold, Respond, Route
from ext_proc.processing.request import Head
from ext_proc.server.traced import TracedService
from ext_proc.telemetry.metrics import Metrics, negotiated_exposition
from ext_proc.telemetry.refusals import Refusals
from ext_proc.tracing.calls import DecisionNotes
from ext_proc.tracing.tracer import Kind
from ext_proc.wire.call import Call
from mesh.trace_context import TraceContext
from tests.ext_proc.processing import envoy_says as envoy
from tests.ext_proc.server.test_processor import NODES, PREDICT, Policy, Stream, talk
from tests.ext_proc.tracing.kept import CALLER, Spans, at

PARENT = {name: value.decode() for name, value in CALLER.headers()}
ENVOYS = TraceContext(CALLER.trace_id, 0xEE)
"""Envoy's own span of the call, as it says on the stream."""


@dataclass
class Scene:
    service: TracedService
    spans: Spans
    now: list[float]


@asynccontextmanager
async def serving(policy: Policy, ratio: float = 0.0) -> AsyncIterator[Scene]:
    now = [0.0]
    spans = Spans(lambda: now[0], ratio)
    async with asyncio.TaskGroup() as tasks:
        parts = (policy, Metrics(), Refusals(), tasks, lambda: now[0], spans.tracer)
        yield Scene(TracedService(*parts, DecisionNotes()), spans, now)


class Noted(Policy):
    """Says something of each decision."""

    notes: DecisionNotes

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        self.notes.last = {"tbms.ground": call.model}
        return super().decide(head, call, now)


async def test_a_plain_call_has_a_span_until_it_is_decided() -> None:
    async with serving(Policy(Route(NODES))) as scene:
        session = talk(scene.service, Stream(), envoy.rest(PREDICT, x_request_id="r1", **PARENT))
        scene.now[0] = 5.0  # the reply takes its time, which is Envoy's affair
        session.half_closed()
        span = scene.spans.one("tbms.decide")
    assert (span.parent_id, span.kind, span.error) == (CALLER.span_id, Kind.SERVER, "")
    assert (span.context.trace_id, span.context.state) == (CALLER.trace_id, "v=1")
    assert (at(span.begun), at(span.ended)) == (0.0, 0.0)
    assert span.attributes == {
        "tbms.outcome": "routed",
        "tbms.waited": "nothing",
        "tbms.model": "resnet",
        "tbms.protocol": "tfs-rest",
        "tbms.verb": "predict",
        "tbms.nodes": NODES,
        "tbms.request_id": "r1",
    }


@pytest.mark.parametrize(
    ("header", "ratio", "sampled"),
    [("", 0.0, False), ("", 1.0, True), (PARENT["traceparent"][:-2] + "00", 1.0, False), ("00-nonsense", 1.0, True)],
)
async def test_who_is_not_sampled_has_none(header: str, ratio: float, sampled: bool) -> None:
    async with serving(Policy(Route(NODES)), ratio) as scene:
        told = {"traceparent": header} if header else {}
        talk(scene.service, Stream(), envoy.rest(PREDICT, **told)).half_closed()
        assert len(scene.spans.all) == sampled
        assert [span.parent_id for span in scene.spans.all] == [0] * sampled


async def test_envoys_own_span_goes_before_that_of_its_caller() -> None:
    metadata = {name: value.decode() for name, value in ENVOYS.headers()}
    async with serving(Policy(Route(NODES))) as scene:
        talk(scene.service, Stream(metadata), envoy.rest(PREDICT, **PARENT)).half_closed()
        assert scene.spans.one("tbms.decide").parent_id == ENVOYS.span_id


async def test_a_held_call_is_resolved_under_its_span() -> None:
    seen: list[TraceContext | None] = []

    class Resolving(Policy):
        async def resolve(self, held: Held) -> Decision:
            seen.append(held.trace)
            scene.now[0] = 2.0
            return Respond(200, (), b"{}")

    async with serving(Resolving(Hold())) as scene:
        session = talk(scene.service, Stream(), envoy.rest(PREDICT, **PARENT))
        while not scene.spans.all:
            await asyncio.sleep(0)
        session.half_closed()
        span = scene.spans.one("tbms.decide")
    assert seen == [span.context]
    assert (at(span.begun), at(span.ended)) == (0.0, 2.0)
    assert (span.attributes["tbms.outcome"], span.attributes["tbms.waited"]) == ("answered", "work")


@pytest.mark.parametrize("end", ["half_closed", "gone"])
async def test_the_span_of_a_held_call_ends_with_its_client(end: str) -> None:
    async with serving(Policy(Hold(), lambda: asyncio.Event().wait())) as scene:
        session = talk(scene.service, Stream(), envoy.rest(PREDICT, **PARENT))
        await asyncio.sleep(0)
        scene.now[0] = 3.0
        getattr(session, end)()
        session.gone()
        span = scene.spans.one("tbms.decide")
    assert (at(span.begun), at(span.ended), span.error) == (0.0, 3.0, "")
    assert span.attributes["tbms.outcome"] == "cancelled"


async def test_a_refusal_and_a_mistake_of_ours_are_errors() -> None:
    class Refusing(Policy):
        def decide(self, head: Head, call: Call, now: float) -> Decision:
            raise CallError(Reason.NOT_FOUND, "There is no such model.")

    class Broken(Policy):
        def decide(self, head: Head, call: Call, now: float) -> Decision:
            raise ZeroDivisionError

    for policy, error in ((Refusing(Hold()), "not_found"), (Broken(Hold()), "internal")):
        async with serving(policy) as scene:
            talk(scene.service, Stream(), envoy.rest(PREDICT, **PARENT)).half_closed()
            assert scene.spans.one("tbms.decide").error == error


async def test_what_is_noted_of_a_decision_is_told_of_that_call() -> None:
    policy = Noted(Hold(), lambda: asyncio.Event().wait())
    async with serving(policy) as scene:
        policy.notes = scene.service.notes
        first = talk(scene.service, Stream(), envoy.rest(PREDICT, **PARENT))
        await asyncio.sleep(0)
        second = talk(scene.service, Stream(), envoy.rest("/v1/models/other:predict", **PARENT))
        unnamed = talk(scene.service, Stream(), envoy.rest("/elsewhere", **PARENT))
        for session in (unnamed, first, second):
            session.gone()
        told = [(span.attributes.get("tbms.model"), span.attributes.get("tbms.ground")) for span in scene.spans.all]
    assert told == [(None, None), ("resnet", "resnet"), ("other", "other")]


async def test_a_sampled_call_is_an_exemplar_where_they_are_asked_for() -> None:
    async with serving(Policy(Route(NODES))) as scene:
        talk(scene.service, Stream(), envoy.rest(PREDICT, **PARENT)).half_closed()
        talk(scene.service, Stream(), envoy.rest(PREDICT)).half_closed()
        metrics = scene.service.metrics
    text, kind = negotiated_exposition([metrics], "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    exemplars = [line for line in text.decode().splitlines() if " # {" in line]
    assert len(exemplars) == 1
    assert f'# {{trace_id="{CALLER.trace_id:032x}"}}' in exemplars[0]
    plain, kind = negotiated_exposition([metrics], "text/plain")
    assert kind.startswith("text/plain; version=0.0.4")
    assert b"trace_id" not in plain
