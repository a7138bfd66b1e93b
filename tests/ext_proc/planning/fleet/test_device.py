"""Calls that go to a node's device in batches, by the real scheduler."""

import pytest

from ext_proc.batching.settings import BatchingSettings
from ext_proc.broker.plan import Candidate, Plan
from ext_proc.errors import TbmsError
from ext_proc.planning.curve import straight
from ext_proc.planning.fleet.cache_node import CacheRules
from ext_proc.planning.fleet.change import FleetChange
from ext_proc.planning.fleet.figures import Figures
from ext_proc.planning.fleet.profile import in_order, profile_of
from ext_proc.planning.fleet.rules import NodeRules
from ext_proc.planning.fleet.simulation import simulate
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way

BEGIN = 1_000.0
BATCH = 0.2
"""Seconds of a batch, whatever its size."""


def rules(max_rows: int, *, cross_request: bool = True, curve_rows: int = 8) -> NodeRules:
    settings = BatchingSettings.model_validate(
        {"slots": 1, "models": {"a": {"max_rows": max_rows, "cross_request": cross_request}}}
    )
    return NodeRules(CacheRules(), settings, {"a": straight(BATCH, 0.0, curve_rows)})


def reached(calls: list[RecordedCall], node: NodeRules) -> Figures:
    fleet = RecordedFleet((RecordedNode("node-0", slots=2, held=("a", "b")),))
    samples = tuple(
        [RecordedCall(BEGIN, name, Way.SAMPLE, Ending.ANSWERED, "node-0", took=0.01, weight=0) for name in "ab"]
    )
    portions = [Portion((*samples, *calls), fleet)]
    return simulate(profile_of(portions), in_order(portions), FleetChange(), node)


def decided(number: int, model: str = "a") -> RecordedCall:
    return RecordedCall(BEGIN + number / 1000, model, Way.DECIDED)


def raced(number: int, limit: float, cross_request: bool | None = None) -> RecordedCall:
    plan = Plan("a", (Candidate("a", estimate_ms=10.0),), 1000 * limit, cross_request=cross_request)
    return RecordedCall(BEGIN + number / 1000, "a", Way.RACED, Ending.ANSWERED, plan=plan, limit=limit)


FIVE = [decided(number) for number in range(5)]


def test_calls_that_come_while_the_device_is_busy_go_together() -> None:
    figures = reached(FIVE, rules(8))
    assert (figures.answered, figures.hits) == (5, 5)
    assert figures.busy_seconds == pytest.approx(2 * BATCH)


def test_other_rules_for_batches_are_other_use_of_the_device() -> None:
    assert reached(FIVE, rules(2)).busy_seconds == pytest.approx(3 * BATCH)
    assert reached(FIVE, rules(8, cross_request=False)).busy_seconds == pytest.approx(5 * BATCH)


def test_a_model_without_a_curve_goes_as_it_did() -> None:
    assert reached([decided(0, "b")], rules(8)).busy_seconds == pytest.approx(0.01)


def test_a_race_is_lost_where_its_batch_ends_too_late() -> None:
    short, long = [raced(number, 0.3) for number in range(3)], [raced(number, 0.9) for number in range(3)]
    assert reached(long, rules(8)).answered == 3
    assert reached(short, rules(8)).answered == 1
    # What shares no batch waits for all before it.
    assert reached([raced(number, 0.5, cross_request=False) for number in range(3)], rules(8)).answered == 2


def test_a_batch_of_a_size_whose_time_nobody_knows_is_told() -> None:
    with pytest.raises(TbmsError, match="may have 16 rows, and its curve ends at 8"):
        reached(FIVE, rules(16))
