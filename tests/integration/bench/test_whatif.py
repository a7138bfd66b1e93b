"""The parts of the what-if benchmark; and simulated fleets held against real caches in virtual time."""

from pathlib import Path

import pytest

from ext_proc.planning.fleet.change import Amount, FleetChange
from ext_proc.planning.fleet.profile import in_order, profile_of
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.planning.fleet.simulation import simulate
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way
from integration.bench.cache.fleet import play
from integration.bench.cache.trace import Case
from integration.bench.whatif.benchmark import Pair, print_hour, print_pairs, ratios
from integration.bench.whatif.fleets import CHANGED, RECORDED, Calls, Reached
from integration.bench.whatif.hour import Hour, Replayed, record, replay

CASE = Case(1.1, 0.05, models=60, nodes=3, slots=10, calls=900, warm_up=0, rate=5.0)


def recorded(case: Case) -> list[Portion]:
    """The calls of a case as an edge with the default settings would record them."""
    trace, weights = case.trace(), case.weights()
    names = [f"model-{number:04d}" for number in range(case.models)]
    fleet = RecordedFleet(tuple([RecordedNode(f"node-{n}", slots=case.slots) for n in range(case.nodes)]))
    loads = [(name, each.fetch_seconds + each.load_seconds) for name, each in zip(names, weights, strict=True)]
    calls = [
        RecordedCall(100.0 + at, names[model], Way.DECIDED) for model, at in zip(trace.models, trace.at, strict=True)
    ]
    samples = [
        RecordedCall(100.0, name, Way.SAMPLE, Ending.ANSWERED, "node-0", took=case.call_seconds, weight=0)
        for name in names
    ]
    return [Portion((*samples, *calls), fleet, tuple(loads))]


@pytest.mark.parametrize("case", [CASE, Case(1.1, 0.05, models=60, nodes=2, slots=10, calls=900, warm_up=0, rate=5.0)])
def test_a_simulated_fleet_hits_as_real_caches_do(case: Case) -> None:
    run, portions = play(case), recorded(case)
    figures = simulate(profile_of(portions), in_order(portions), FleetChange(), NodeRules())
    assert figures.hits == pytest.approx(sum(run.hits), abs=0.01 * case.calls)
    assert figures.loads == pytest.approx(run.loads, rel=0.05)


def test_of_changed_fleets_the_worst_counts() -> None:
    pairs = [
        Pair(RECORDED, Reached(0.5, 0.5), Reached(0.9, 0.9)),
        Pair(CHANGED[0], Reached(0.80, 0.99), Reached(0.81, 0.99)),
        Pair(CHANGED[1], Reached(0.90, 0.96), Reached(0.88, 0.98)),
    ]
    took = Replayed(wall=90.0, cpu=30.0, calls=720_000, size_bytes=9_000_000, hit_share=0.9)
    assert ratios(pairs, took) == {
        "hit_share_error": pytest.approx(0.02),
        "answered_share_error": pytest.approx(0.02),
        "replay_speedup": 40.0,
    }
    print_pairs(Calls(), pairs)
    print_hour(took)


def test_changes_are_those_that_the_fleets_are_started_with() -> None:
    nodes = [RecordedNode(f"node-{n}", slots=RECORDED.slots) for n in range(RECORDED.nodes)]
    for fleet in CHANGED:
        changed = fleet.change.fleet(nodes)
        assert [(node.id, node.slots) for node in changed] == [(f"node-{n}", fleet.slots) for n in range(fleet.nodes)]
        assert fleet.change.backups is fleet.backups


def test_a_short_hour_is_recorded_and_replayed(tmp_path: Path) -> None:
    hour = Hour(rate=20.0, seconds=30.0, models=50, nodes=2, slots=10)
    record(hour, tmp_path)
    took = replay(tmp_path)
    assert took.calls == 600
    assert 0.3 < took.hit_share < 0.9
    assert took.size_bytes < 40 * 600


def test_calls_of_the_benchmark_are_plain_limited_and_backed() -> None:
    calls = Calls()
    assert calls.headers(0, True).keys() == {"tloc", "backup"}
    assert calls.headers(0, False).keys() == calls.headers(1, True).keys() == {"tloc"}
    assert calls.headers(2, True) == {}
    assert Amount(-1, True).of(RECORDED.nodes) == CHANGED[0].nodes
