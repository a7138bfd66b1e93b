"""The spans of gathered calls, by the gatherer itself in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from ext_proc.processing.decision import Held
from ext_proc.tracing.tracer import MOST_LINKS
from integration.virtual_time import run
from mesh.trace_context import TraceContext
from tests.ext_proc.gathering.scene import POISON, SECONDS, Scene, answer_of, held, scene
from tests.ext_proc.tracing.kept import CALLER, Spans, at

Play = Callable[[Scene], Awaitable[None]]


def playing(play: Play, **batching: Any) -> Spans:
    async def main() -> Spans:
        spans = Spans(asyncio.get_running_loop().time)
        async with scene(tracer=spans.tracer, **batching) as stage:
            await play(stage)
        return spans

    return run(main())


def traced(row: float, caller: TraceContext = CALLER) -> Held:
    return replace(held(row), trace=caller)


async def all_queued() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def callers(count: int) -> list[TraceContext]:
    return [TraceContext(1000 + n, 1) for n in range(count)]


def test_a_batch_and_its_members_are_linked_in_both_directions() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await all_queued()
        members = [stage.ask(traced(n, caller)) for n, caller in enumerate(callers(2))] + [stage.ask(held(9.0))]
        await asyncio.gather(first, *members)
        headers = dict(stage.server.requests[1].headers)
        assert int(headers["traceparent"].split(b"-")[2], 16) == batch_id(stage)

    def batch_id(stage: Scene) -> int:
        return spans_of[0].one("tbms.batch").context.span_id

    spans_of: list[Spans] = []

    async def main() -> None:
        spans_of.append(Spans(asyncio.get_running_loop().time))
        async with scene(tracer=spans_of[0].tracer) as stage:
            await play(stage)

    run(main())
    spans = spans_of[0]
    batch, queued = spans.one("tbms.batch"), spans.named("tbms.queue")
    assert batch.parent_id == 0, "it belongs to none of its members"
    assert batch.links == tuple(span.context for span in queued)
    assert batch.attributes["tbms.calls"] == 3, "one of them is not traced"
    assert [(span.context.trace_id, span.links) for span in queued] == [
        (1000, (batch.context,)),
        (1001, (batch.context,)),
    ]
    assert {(at(span.begun), at(span.ended)) for span in queued} == {(0.0, SECONDS)}
    assert (at(batch.begun), at(batch.ended)) == (SECONDS, 2 * SECONDS)


def test_the_batch_of_one_call_is_part_of_its_trace() -> None:
    async def play(stage: Scene) -> None:
        await stage.ask(traced(1.0))
        headers = [pair for pair in stage.server.requests[0].headers if pair[0] == "traceparent"]
        assert len(headers) == 1

    spans = playing(play)
    queue, batch = spans.one("tbms.queue"), spans.one("tbms.batch")
    assert (queue.parent_id, batch.parent_id) == (CALLER.span_id, queue.context.span_id)
    assert (queue.links, batch.links) == ((), ())


def test_of_more_members_than_links_the_most_urgent_are_linked() -> None:
    count = MOST_LINKS + 3

    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await all_queued()
        await asyncio.gather(first, *(stage.ask(traced(1.0, caller)) for caller in callers(count)))

    settings = {"max_rows": 1024, "cross_request": True}
    spans = playing(play, default=settings)
    batch, queued = spans.one("tbms.batch"), spans.named("tbms.queue")
    assert len(queued) == count
    assert [link.trace_id for link in batch.links] == list(range(1000, 1000 + MOST_LINKS))
    assert batch.more_links == 3
    assert all(span.links == (batch.context,) for span in queued), "the way back is never missing"


def test_a_call_that_leaves_its_queue_has_ended() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await all_queued()
        gone = stage.ask(traced(1.0))
        await asyncio.sleep(SECONDS / 2)
        gone.cancel()
        await asyncio.wait([gone, first])

    spans = playing(play)
    queue = spans.one("tbms.queue")
    assert (at(queue.ended), queue.error, queue.attributes["tbms.batches"]) == (SECONDS / 2, "", 0)
    assert not spans.named("tbms.batch")


def test_members_of_a_batch_that_fails_are_linked_with_all_their_batches() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await all_queued()
        good, bad = stage.ask(traced(1.0, TraceContext(1, 1))), stage.ask(traced(POISON, TraceContext(2, 2)))
        assert answer_of(await good) == [2.0]
        assert (await bad).status == 500
        await first

    spans = playing(play)
    together, *alone = spans.named("tbms.batch")
    assert (together.attributes["tbms.outcome"], together.error) == ("again", "again")
    assert sorted((span.context.trace_id, span.error) for span in alone) == [(1, ""), (2, "failed")]
    assert {span.links for span in spans.named("tbms.queue")} == {(together.context,)}
    assert {span.attributes["tbms.batches"] for span in spans.named("tbms.queue")} == {2}


def test_a_call_that_is_asked_again_for_a_comparison_is_in_no_trace() -> None:
    async def play(stage: Scene) -> None:
        first = stage.ask(held(0.0))
        await all_queued()
        await asyncio.gather(first, *(stage.ask(traced(n, caller)) for n, caller in enumerate(callers(2))))
        await asyncio.sleep(10 * SECONDS)
        assert stage.report.checks == [True]

    spans = playing(play, chance=lambda: 0.0)
    assert (len(spans.named("tbms.queue")), len(spans.named("tbms.batch"))) == (2, 1)
