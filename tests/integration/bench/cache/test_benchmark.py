"""The cache benchmark's arithmetic, its tables, and its last line."""

import json

import pytest

from integration.bench import __main__ as bench
from integration.bench.cache import benchmark
from integration.bench.cache.benchmark import print_fleet, print_hits, print_map, ratios
from integration.bench.cache.cold_loads import Pair, Schedule
from integration.bench.cache.fleet import FleetRun, Moves, most_moved, moved
from integration.bench.cache.hit_shares import Shares, shares
from integration.bench.cache.map_cost import MapCost
from integration.bench.cache.trace import Case

SMALL = {"models": 4, "nodes": 2, "slots": 1, "calls": 6, "warm_up": 2}
MILD, STEEP = Case(0.9, 0.05, **SMALL), Case(1.1, 0.05, **SMALL)
MOVES = Moves(left=[1, 3], joined=[1, 2], needless=1)
RUN = FleetRun([False, False, True, True, True, False], [0, 1, 0, 1, 0, 0], 3, 0, 1.0, MOVES)
PAIRS = [
    Pair(quiet=[10.0], beside=[20.0], cold=[450.0]),
    Pair(quiet=[10.0], beside=[11.0], cold=[460.0]),
    Pair(quiet=[20.0], beside=[21.0], cold=[470.0]),
]
COST = MapCost(usual_mib=20.0, full_mib=30.0, first=1e4, steady=9e4, news=8e4)


def test_shares_count_after_the_start_of_a_trace() -> None:
    found = shares(MILD, RUN, [0, 1, 0, 1, 0, 2])
    assert found.fleet == 3 / 4
    assert found.shared_lru == 3 / 4  # two slots: 0 and 1 stay until 2 comes
    assert found.own_lru == 3 / 4  # one slot each, on the calls as the fleet has spread them
    assert found.round_robin == 3 / 4  # 0, 0, 0 and 1, 1, 2
    assert 0 <= found.random <= 3 / 4


def test_moves_are_means_over_the_nodes_and_the_worse_of_leaving_and_joining() -> None:
    assert MILD.fair_share == 2
    assert moved(MOVES, 2) == 1.0
    assert most_moved(MOVES, 2) == 1.5
    assert moved(Moves([1, 1], [2, 4], 0), 2) == 1.5


def test_of_several_cases_the_worst_counts() -> None:
    better = FleetRun(RUN.hits, RUN.nodes, 3, 0, 1.0, Moves([1, 1], [1, 1], 0))
    reached = {MILD: Shares(0.8, 0.8, 0.8, 0.4, 0.5), STEEP: Shares(0.9, 1.0, 0.9, 0.5, 0.5)}
    assert ratios({MILD: RUN, STEEP: better}, reached, PAIRS, COST) == {
        "hit_p99_with_cold_loads": 1.1,  # of 2, 1.1 and 1.05
        "hit_share_vs_shared_lru": 0.9,
        "hit_share_vs_random_placement": 1.8,
        "moved_vs_k_over_n": 1.0,
        "map_mib": 30.0,
        "lookups_per_s": 8e4,
    }


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reached = {MILD: Shares(0.81234, 0.9, 0.9, 0.4, 0.5)}

    async def measure() -> dict[str, float]:
        print_fleet({MILD: RUN}, reached)
        print_hits(Schedule(pairs=3), PAIRS)
        print_map(100, 10_000, COST)
        return ratios({MILD: RUN}, reached, PAIRS, COST)

    monkeypatch.setattr(benchmark, "measure", measure)
    assert "cache" in sorted(bench.BENCHMARKS)
    assert bench.main(["cache"]) == 0
    *tables, last = capsys.readouterr().out.splitlines()
    document = json.loads(last)
    assert document["bench"] == "cache"
    assert document["ratios"]["hit_share_vs_shared_lru"] == 0.9026
    rows = "\n".join(tables)
    for cell in ("81.23%", "0.903", "460", "1.100", "30.0", "80,000"):
        assert cell in rows
