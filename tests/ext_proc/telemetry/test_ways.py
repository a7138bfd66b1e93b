"""Which ways calls went, as metrics and as /status tell it."""

from ext_proc.edge.status import ways_status
from ext_proc.edge.ways import Ground
from ext_proc.telemetry.metrics import exposition
from ext_proc.telemetry.ways import WayReport


def test_each_ground_counts_for_its_way_and_candidates_are_no_clients_calls() -> None:
    report = WayReport()
    for ground, calls in ((Ground.UNMAPPED, 3), (Ground.HEADERS, 2), (Ground.CANDIDATE, 4), (Ground.BATCHING, 1)):
        for _ in range(calls):
            report.count(ground)
    assert report.by_way() == {"decided": {"unmapped": 3}, "raced": {"headers": 2}, "gathered": {"batching": 1}}
    lines = exposition([report]).decode().splitlines()
    assert 'tbms_ways_total{ground="headers",way="raced"} 2.0' in lines
    assert 'tbms_ways_total{ground="candidate",way="decided"} 4.0' in lines


def test_the_share_of_known_calls_is_that_of_all() -> None:
    asked = {"decided": {"unmapped": 3}, "raced": {"headers": 3}}
    assert ways_status(18, asked) == {"known": 18, "known_share": 0.75, "asked": asked}
    assert ways_status(0, {})["known_share"] is None
