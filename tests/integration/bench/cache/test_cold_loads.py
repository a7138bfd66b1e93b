"""Hits beside cold loads: when they are due, how they are cut into rounds, and a short play on a real node."""

from itertools import pairwise

import pytest

from integration.bench.cache import cold_loads
from integration.bench.cache.cold_loads import Pair, Schedule, slowdown
from integration.bench.open_loop import Sample
from integration.stack.process import ProcessError
from tests.integration.conftest import need_envoy

SCHEDULE = Schedule(pairs=3, seconds=2.0, rate=10.0, cold_rate=2.0, warm_up=1.0)


def test_each_kind_of_round_comes_first_in_turn() -> None:
    assert [SCHEDULE.starts(pair) for pair in range(3)] == [(3.0, 1.0), (5.0, 7.0), (11.0, 9.0)]


def test_both_rounds_of_a_pair_have_hits_at_the_same_times() -> None:
    due = SCHEDULE.hits()
    assert len(due) == 10 + 3 * 2 * 20
    assert all(earlier < later for earlier, later in pairwise(due))
    for pair in range(3):
        beside, quiet = ([at - start for at in due if start <= at < start + 2.0] for start in SCHEDULE.starts(pair))
        assert len(beside) == 20
        assert beside == pytest.approx(quiet)


def test_cold_calls_leave_the_next_round_alone() -> None:
    assert SCHEDULE.cold_calls(0) == [3.0, 3.5, 4.0]
    assert Schedule(seconds=1.0, cold_rate=0.5).cold_calls(1) == [4.0]


def test_samples_are_cut_into_the_rounds_that_they_were_due_in() -> None:
    samples = [Sample(at, True, 0.0) for at in SCHEDULE.hits()]
    pairs = SCHEDULE.cut(samples, [[400.0], [500.0], [600.0]])
    for number, pair in enumerate(pairs):
        beside, quiet = SCHEDULE.starts(number)
        assert len(pair.beside) == len(pair.quiet) == 20
        assert all(beside <= at < beside + 2.0 for at in pair.beside)
        assert all(quiet <= at < quiet + 2.0 for at in pair.quiet)
    assert [pair.cold for pair in pairs] == [[400.0], [500.0], [600.0]]


def test_a_lost_hit_ends_the_benchmark() -> None:
    samples = [Sample(at, at > 1.0, 0.0) for at in SCHEDULE.hits()]
    with pytest.raises(ProcessError, match="10 of 130 hits had no answer"):
        SCHEDULE.cut(samples, [[], [], []])


def test_the_slowdown_is_the_median_of_neighbours() -> None:
    def pair(quiet: float, beside: float) -> Pair:
        return Pair([1.0] * 99 + [quiet], [1.0] * 98 + [beside] * 2, [])

    pairs = [pair(5.0, 9.0), pair(5.0, 1.1), pair(5.0, 1.2)]
    assert slowdown(pairs, 0.99) == 1.2
    assert slowdown(pairs, 0.5) == 1.0


async def test_rounds_on_a_real_node(monkeypatch: pytest.MonkeyPatch) -> None:
    need_envoy("1.40")
    monkeypatch.setattr(cold_loads, "LOAD_DELAY_MS", 50.0)
    schedule = Schedule(pairs=1, seconds=1.0, rate=20.0, warm_up=0.5)
    (pair,) = await cold_loads.rounds(schedule)
    assert len(pair.quiet) == len(pair.beside) == 20
    assert len(pair.cold) == 1
    assert min(pair.quiet) > 0
    assert min(pair.cold) >= 50
