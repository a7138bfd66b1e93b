"""The parts of the deadline benchmark: traces, arithmetic, the scripted node, the load generator and the sleeper."""

import asyncio
import math
from itertools import pairwise
from pathlib import Path

import aiohttp
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.bench.deadline.benchmark import Run, print_table, ratios
from integration.bench.deadline.sleeper import sleeper
from integration.bench.deadline.trace import CASES, LIMIT_MS, SLOW_MS, Case, trace
from integration.bench.open_loop import GRACE_MS, Play, Sample, answered_within, open_loop, overshoots, quantile
from integration.peers.scripted_node import scripted_node


def sample(ms: float, *, answered: bool = True) -> Sample:
    return Sample(ms, answered, 0.0)


def test_a_trace_is_the_same_for_the_same_seed_only() -> None:
    case = CASES[-1]
    assert trace(case, 40, 5, 1) == trace(case, 40, 5, 1) != trace(case, 40, 5, 2)


def test_a_trace_has_the_rate_and_the_tail_that_it_says() -> None:
    calls = trace(Case("x", slow=0.05, hang=0.01), 100, 200, 1)
    assert len(calls) == pytest.approx(20_000, rel=0.03)
    assert all(earlier.at < later.at for earlier, later in pairwise(calls))
    assert sum(call.primary_ms == SLOW_MS for call in calls) == pytest.approx(1000, rel=0.1)
    assert sum(math.isinf(call.primary_ms) for call in calls) == pytest.approx(200, rel=0.25)
    assert quantile((call.primary_ms for call in calls), 0.5) == pytest.approx(20, rel=0.02)
    assert max(call.backup_ms for call in calls) < 20


def test_an_outage_is_one_piece_in_the_middle() -> None:
    calls = trace(Case("x", slow=0, outage=0.1), 100, 100, 1)
    hanging = [call.at for call in calls if math.isinf(call.primary_ms)]
    assert min(hanging) >= 45
    assert max(hanging) <= 55
    assert len(hanging) == sum(45 <= call.at < 55 for call in calls)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert found == min(values) or sum(value < found for value in values) < share * len(values) + 1e-9


def test_no_values_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_only_answers_within_the_grace_count() -> None:
    limit = [sample(10), sample(50 + GRACE_MS), sample(50.1 + GRACE_MS), sample(20, answered=False)]
    assert answered_within(limit, 50) == 0.5
    assert overshoots(limit, 50) == pytest.approx([0, GRACE_MS, 0.1 + GRACE_MS, 0])


def test_the_ratios_are_those_of_the_worst_case() -> None:
    def runs(extra_ms: float, *late_shares: int) -> dict[str, Run]:
        return {
            case.name: Run([sample(30)] * (100 - late) + [sample(400)] * late, 1000, extra_ms * n, 0)
            for n, (case, late) in enumerate(zip(CASES, late_shares, strict=True), start=1)
        }

    limited = Run([sample(LIMIT_MS + 1, answered=False)] * 10, 1000, 0, 0)
    figures = ratios(runs(0, 1, 5, 11), limited, runs(20, 0, 0, 2), [0.1] * 998 + [0.5, 7.0])
    assert figures == {
        "answered_within_limit": 0.98,
        "answered_within_limit_no_backups": 0.89,
        "overshoot_p99_ms": 1,
        "overshoot_p999_ms": 340,
        "p99_vs_no_backups": 30 / 400,
        "extra_work": 0.06,
        "extra_work_one_percent_tail": 0.02,
        "timer_lateness_p999_ms": 0.5,
    }


def test_the_table_has_a_row_for_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {case.name: Run([sample(30)] * 10, 1000, 20, 5) for case in CASES}
    print_table(runs, Run([sample(61, answered=False)] * 10, 1000, 0, 5), runs)
    rows = [line for line in capsys.readouterr().out.splitlines() if any(case.name in line for case in CASES)]
    assert len(rows) == 2 * len(CASES) + 1
    assert sum("100.00%" in row for row in rows) == 2 * len(CASES)


async def test_a_scripted_node_works_as_long_as_a_call_says_or_until_it_is_given_up(tmp_path: Path) -> None:
    async with scripted_node("bert", "x-bert-ms", tmp_path) as running:
        url, method = f"http://{running.node.rest}/v1/models/bert:predict", "/a.Service/Method"
        async with aiohttp.ClientSession() as http, grpc.aio.insecure_channel(str(running.node.grpc)) as channel:
            async with http.post(url, headers={"x-bert-ms": "20"}) as reply:
                assert reply.status == 200
            await channel.unary_unary(method)(b"", metadata=[("x-bert-ms", "30")])
            for call in (
                http.post(url, headers={"x-bert-ms": "inf"}),
                channel.unary_unary(method)(b"", metadata=[("x-bert-ms", "inf")]),
            ):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.3):
                        await call
        work = await running.work()
        assert (work.calls, work.given_up, work.running) == (4, 2, 0)
        assert work.ms > 20 + 30


async def test_the_load_generator_counts_from_the_intended_time(tmp_path: Path) -> None:
    async with scripted_node("bert", "x-bert-ms", tmp_path) as running:
        # It speaks both protocols to one address, as Envoy does: here only REST finds its port.
        calls = [(0.0, {"x-bert-ms": "0"}), (0.01, {"x-bert-ms": "40"}), (0.02, {}), (0.03, {"x-bert-ms": "inf"})]
        play = Play(str(running.node.rest), "bert", 0.5, calls, protocols=("rest",))
        first, slow, wrong, hung = await open_loop(play, tmp_path)
        assert first.answered
        assert slow.answered
        assert slow.ms >= 40
        assert not wrong.answered
        assert not hung.answered
        assert hung.ms >= 499
        assert all(one.sent_late_ms >= 0 for one in (first, slow, wrong, hung))


async def test_the_sleeper_tells_every_nap(tmp_path: Path) -> None:
    async with sleeper(tmp_path) as lateness:
        await asyncio.sleep(0.5)
        assert lateness == []
    assert len(lateness) > 3
    assert min(lateness) >= 0
