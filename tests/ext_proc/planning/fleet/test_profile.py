"""What is read out of a recording before it is played."""

import pytest

from ext_proc.planning.fleet.profile import REORDER_SECONDS, in_order, profile_of
from ext_proc.recording.calls import Ending, Portion, RecordedCall, RecordedFleet, RecordedNode, Way


def call(at: float, way: Way = Way.DECIDED, **fields: object) -> RecordedCall:
    return RecordedCall(at, "m", way, **fields)  # type: ignore[arg-type]


def fleet(*slots: int) -> RecordedFleet:
    return RecordedFleet(tuple([RecordedNode(f"node-{n}", slots=each) for n, each in enumerate(slots)]))


def test_calls_are_played_as_they_came_though_they_are_told_of_as_they_end() -> None:
    long, short = call(1.0, Way.KNOWN, took=60.0), call(50.0, Way.KNOWN, took=1.0)
    later = [call(51.0 + number * REORDER_SECONDS, Way.KNOWN) for number in range(4)]
    portions = [Portion((short,)), Portion((long, call(2.0, Way.SAMPLE))), *(Portion((each,)) for each in later)]
    assert list(in_order(portions)) == [long, short, *later]


def test_the_fleet_is_the_one_that_was_there_for_longest() -> None:
    portions = [
        Portion((call(0.0),), fleet(1, 1)),
        Portion((call(10.0),), fleet(2, 2)),
        Portion((call(70.0),)),
        Portion((call(71.0),), fleet(3)),
        Portion((call(100.0),)),
    ]
    profile = profile_of(portions)
    assert profile.fleet == fleet(2, 2)
    assert (profile.recorded.nodes, profile.recorded.slots) == (2, 4)


def test_what_was_reached_is_that_of_all_calls_as_far_as_it_was_seen() -> None:
    calls = (
        call(0.0, cold=True),
        call(1.0),
        call(1.0, Way.SAMPLE, ending=Ending.ANSWERED, node="node-0", took=0.2, weight=0),
        call(2.0, Way.KNOWN, ending=Ending.ANSWERED, took=0.1, weight=16),
        call(3.0, Way.RACED, ending=Ending.LATE, cold=True),
        call(4.0, Way.RACED, ending=Ending.GONE),
        call(5.0, Way.RACED, ending=Ending.ANSWERED),
        call(5.0, Way.SAMPLE, ending=Ending.ANSWERED, took=0.3, weight=0),
    )
    figures = profile_of([Portion(calls, fleet(1))]).recorded
    assert (figures.calls, figures.hits, figures.gone) == (21, 19, 1)
    assert figures.answered_share == pytest.approx((2 + 16 + 1) / 20)
    assert figures.busy_seconds == pytest.approx(2 * 0.2 + 16 * 0.1 + 0.3)
    assert profile_of([Portion(calls, fleet(1))], warm_up=2.5).recorded.calls == 3


def test_a_load_takes_what_nodes_have_told_or_what_cold_calls_took_longer() -> None:
    warm = [RecordedCall(0.0, "a", Way.SAMPLE, Ending.ANSWERED, took=0.1, weight=0)]
    cold = [RecordedCall(0.0, "a", Way.SAMPLE, Ending.ANSWERED, "", True, took=each, weight=0) for each in (2.1, 1.0)]
    profile = profile_of([Portion((call(0.0), *warm, *cold), fleet(1), (("b", 5.0),))])
    assert profile.loads == {"a": pytest.approx(2.1 - 0.1 - 0.275), "b": 5.0}
    assert [run.seconds for run in profile.runs["a"]] == [0.1]


def test_a_call_that_was_still_at_it_when_its_time_was_up_takes_longer_than_that() -> None:
    late = RecordedCall(0.0, "a", Way.SAMPLE, Ending.LATE, took=0.1, weight=0)
    (run,) = profile_of([Portion((call(0.0), late), fleet(1))]).runs["a"]
    assert (run.seconds, run.answered) == (0.4, True)
