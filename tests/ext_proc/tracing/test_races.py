"""The spans of races and candidates, by the race runner itself in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from integration.virtual_time import run
from tests.ext_proc.racing.scene import NODE, Scene, Script, held, plan, rest_reply, scene
from tests.ext_proc.tracing.kept import CALLER, Spans, at

Play = Callable[[Scene, Spans], Awaitable[None]]


def playing(play: Play, **scripts: Script) -> Spans:
    async def main() -> Spans:
        spans = Spans(asyncio.get_running_loop().time)
        async with scene(tracer=spans.tracer, **scripts) as stage:
            await play(stage, spans)
        await asyncio.sleep(0)
        return spans

    return run(main())


TRACED = replace(held(traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", tracestate="other=1"), trace=CALLER)


def parent_in(headers: dict[str, bytes]) -> int:
    return int(headers["traceparent"].decode().split("-")[2], 16)


def test_each_candidate_has_a_span_below_that_of_the_race_and_tells_it_to_its_node() -> None:
    async def play(stage: Scene, spans: Spans) -> None:
        await stage.race_runner.run(TRACED, plan("bert", "svm"), 0.0)
        by_model = {dict(request.headers)["x-tbms-model"].decode(): request for _, request in stage.upstream.sent}
        await asyncio.sleep(0)
        for span in spans.named("tbms.candidate"):
            headers = by_model[str(span.attributes["tbms.model"])].headers
            assert [name for name, _ in headers].count("traceparent") == 1
            assert parent_in(dict(headers)) == span.context.span_id
            assert dict(headers)["tracestate"] == b"v=1"

    spans = playing(play, bert=Script(None), svm=Script(0.005))
    race = spans.one("tbms.race")
    assert (race.parent_id, race.context.trace_id, race.error) == (CALLER.span_id, CALLER.trace_id, "")
    assert (race.attributes["tbms.outcome"], race.attributes["tbms.why"], race.attributes["tbms.rank"]) == (
        "answer", "overdue", 1,
    )  # fmt: skip
    bert, svm = sorted(spans.named("tbms.candidate"), key=lambda span: str(span.attributes["tbms.model"]))
    assert {bert.parent_id, svm.parent_id} == {race.context.span_id}
    assert (bert.attributes["tbms.fate"], svm.attributes["tbms.fate"]) == ("late", "won")
    assert (at(bert.begun), at(svm.begun), at(svm.ended)) == (0.0, 0.010, 0.015)
    assert at(bert.ended) == at(race.ended) == 0.048
    assert (svm.attributes["tbms.planned_ms"], svm.attributes["tbms.start_ms"]) == (10.0, 10.0)
    assert (svm.attributes["tbms.nodes"], svm.attributes["tbms.attempts"]) == ((NODE,), 1)


def test_a_candidate_that_fails_and_a_race_that_comes_to_nothing_are_errors() -> None:
    async def play(stage: Scene, spans: Spans) -> None:
        await stage.race_runner.run(TRACED, plan("bert"), 0.0)

    spans = playing(play, bert=Script(0.001, rest_reply(b"{}", 500)))
    assert (spans.one("tbms.candidate").error, spans.one("tbms.race").error) == ("failed", "failed")


def test_a_client_that_leaves_ends_the_spans_of_its_race() -> None:
    async def play(stage: Scene, spans: Spans) -> None:
        race = asyncio.create_task(stage.race_runner.run(TRACED, plan("bert", "svm"), 0.0))
        await asyncio.sleep(0.005)
        race.cancel()
        await asyncio.wait([race])

    spans = playing(play, bert=Script(None), svm=Script(0.005))
    race, candidate = spans.one("tbms.race"), spans.one("tbms.candidate")
    assert (race.attributes["tbms.outcome"], at(race.ended), race.error) == ("gone", 0.005, "")
    assert (candidate.attributes["tbms.fate"], at(candidate.ended)) == ("cancelled", 0.005)


def test_a_call_that_is_not_traced_has_none_and_its_headers_go_on_as_they_came() -> None:
    async def play(stage: Scene, spans: Spans) -> None:
        await stage.race_runner.run(replace(TRACED, trace=None), plan("bert"), 0.0)
        ((_, request),) = stage.upstream.sent
        sent = dict(request.headers)
        assert sent["traceparent"].decode() == TRACED.head.headers["traceparent"]
        assert sent["tracestate"] == b"other=1"

    assert playing(play, bert=Script(0.001)).all == []
