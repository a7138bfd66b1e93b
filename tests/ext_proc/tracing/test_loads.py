"""The spans of holds and loads, by the node's policy before a model cache, in virtual time."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ext_proc.errors import CallError
from ext_proc.node.policy import NodePolicy
from ext_proc.processing.decision import Held, Pass
from ext_proc.telemetry.cache import CacheReport
from ext_proc.telemetry.metrics import negotiated_exposition
from ext_proc.tracing.loads import LoadTraces
from mesh.trace_context import TraceContext
from tests.ext_proc.node.calls import HEAD, call, give_back
from tests.ext_proc.tracing.kept import WALL, Spans
from tests.mesh.model_cache.cache import Cache, play

FIRST, SECOND = TraceContext(1, 1), TraceContext(2, 2)


def traced(cache: Cache) -> tuple[NodePolicy, Spans]:
    spans = Spans(asyncio.get_running_loop().time)
    traces = LoadTraces(spans.tracer)
    cache.manager.load_listeners.append(traces.ended)
    return NodePolicy(cache.manager, 1 << 20, 60.0, trace_hold=traces.hold), spans


def asking(policy: NodePolicy, caller: TraceContext | None, model: str = "m") -> asyncio.Task[Any]:
    return asyncio.create_task(policy.resolve(Held(HEAD, call(model), (), trace=caller)))


def test_one_load_is_in_the_trace_of_the_first_call_and_linked_with_the_others(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy, spans = traced(cache)
            report = CacheReport(cache.manager)
            begun = asyncio.get_running_loop().time()
            first = asking(policy, FIRST)
            await asyncio.sleep(0.5)
            others = [asking(policy, None), asking(policy, SECOND)]
            for task in (first, *others):
                decision = await task
                assert isinstance(decision, Pass)
                give_back(decision)
            load = spans.one("tbms.load")
            one, two = spans.named("tbms.hold")
            assert (one.parent_id, two.parent_id) == (FIRST.span_id, SECOND.span_id)
            assert load.parent_id == one.context.span_id
            assert (load.links, two.links, one.links) == ((two.context,), (load.context,), ())
            took = (load.ended - load.begun) / 1e9
            assert took == pytest.approx(3.0, abs=1e-3)
            assert one.begun == pytest.approx((WALL + begun) * 1e9, abs=1e3)
            assert two.ended - two.begun == pytest.approx(2.51e9, abs=1e6), "with a look at the server"
            stages = [span for span in spans.all if span.parent_id == load.context.span_id]
            assert [span.name for span in stages] == ["tbms.fetch", "tbms.server_load"]
            assert [(span.ended - span.begun) / 1e9 for span in stages] == pytest.approx([1.0, 2.0], abs=1e-3)
            text, _ = negotiated_exposition([report], "application/openmetrics-text")
            assert f'# {{trace_id="{FIRST.trace_id:032x}"}}' in text.decode()

    play(tmp_path, scenario)


def test_a_call_that_leaves_ends_its_hold_and_not_the_load(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy, spans = traced(cache)
            gone = asking(policy, FIRST)
            await asyncio.sleep(0.5)
            gone.cancel()
            await asyncio.wait([gone])
            hold = spans.one("tbms.hold")
            assert (hold.error, round((hold.ended - hold.begun) / 1e9, 3)) == ("", 0.5)
            await asyncio.sleep(10)
            assert spans.one("tbms.load").parent_id == hold.context.span_id

    play(tmp_path, scenario)


def test_a_load_that_fails_says_at_which_stage(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.server.broken["m"] = "no such operator"
        async with cache.running():
            policy, spans = traced(cache)
            with pytest.raises(CallError):
                await asking(policy, FIRST)
            assert {span.name: span.error for span in spans.all} == {
                "tbms.load": "ModelBroken",
                "tbms.fetch": "",
                "tbms.server_load": "ModelBroken",
                "tbms.hold": "ModelBroken",
            }

    play(tmp_path, scenario)


def test_what_waits_for_room_says_so(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for model in ("m", "n"):
            cache.store.put(model)
        async with cache.running():
            policy, spans = traced(cache)
            give_back(await asking(policy, None))
            give_back(await asking(policy, FIRST, "n"))
            assert [span.name for span in spans.all[:-1]] == [
                "tbms.load",
                "tbms.room",
                "tbms.fetch",
                "tbms.server_load",
            ]

    play(tmp_path, scenario, capacity={"models": 1})


def test_calls_that_are_not_traced_leave_no_span(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            policy, spans = traced(cache)
            give_back(await asking(policy, None))
            give_back(await policy.resolve(replace(Held(HEAD, call(), ()), trace=FIRST)))  # it is there by now
            assert [span.name for span in spans.all] == ["tbms.hold"]

    play(tmp_path, scenario)
