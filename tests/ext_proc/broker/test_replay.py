"""Records, exact replay, and what-if: on races simulated with random times."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from ext_proc.broker.plan import AnswerMode
from ext_proc.broker.record import RaceRecord, race_json, read_records
from ext_proc.broker.replay import replay, replay_all, reproduces
from ext_proc.broker.whatif import WhatIf, what_if
from ext_proc.errors import TbmsError
from tests.ext_proc.broker.rules import Arena, single


def record_one(
    times: Sequence[float], *, limit: float = 50, level: float = 1e6, arrival: float = 100.0
) -> dict[str, Any]:
    """Plays one race in which candidate i takes times[i] ms, and returns its record as it is read from the log."""
    estimates = [35, 25, 5][: len(times)]
    targets = [single(name) for name in ("embedding", "svm", "bayes")[: len(times)]]
    arena = Arena(targets, estimates, limit, margin_ms=2, level_ms=level, arrival=arrival)
    arena.begin()
    since: dict[tuple[int, int], float] = {}
    while not arena.race.over:
        for call in arena.running:
            since.setdefault(call, arena.now)
        ends = min((round(since[call] + times[call[0]], 3), call) for call in arena.running)
        if ends[0] <= arena.wake_ms():
            arena.now = ends[0]
            arena.result(ends[1])
        else:
            arena.sleep_until_wake_up()
    loaded: dict[str, Any] = json.loads(f'{{"event": "race", {race_json(arena.race)}}}')
    return loaded


def recording(races: int, *, slow: float, limit: float = 50) -> list[RaceRecord]:
    """Primaries of about 20 ms, of which a share `slow` takes 20 times as long."""
    chance = random.Random(7)
    records = []
    for n in range(races):
        primary = chance.uniform(15, 25) * (20 if chance.random() < slow else 1)
        times = [round(primary, 3), round(chance.uniform(10, 20), 3), round(chance.uniform(2, 4), 3)]
        records.append(RaceRecord.model_validate(record_one(times, limit=limit, arrival=100 + n * 0.01)))
    return records


def test_a_record_tells_the_whole_race() -> None:
    record = record_one([60, 20, 3])
    assert record["event"] == "race"
    assert record["outcome"] == {
        "kind": "answer", "rank": 1, "why": "overdue", "members": [0], "partial": False,
        "elapsed_ms": 48.0, "slack_ms": 2.0,
    }  # fmt: skip
    assert [rank["models"][0]["estimate_ms"] for rank in record["candidates"]] == [35, 25, 5]
    assert record["work"] == {"primary_ms": 35, "hedged_ms": 25, "rescue_ms": 0}
    assert record["log"] == [
        [0.0, "begin", -1, -1], [0.0, "start", 0, 0],
        [23.0, "timer", -1, -1], [23.0, "granted", 1, -1], [23.0, "start", 1, 0],
        [43.0, "result", 1, 0],
        [48.0, "timer", -1, -1], [48.0, "answer", 1, -1], [48.0, "cancel", 0, 0],
    ]  # fmt: skip


def test_an_unchanged_recording_is_reproduced() -> None:
    records = recording(300, slow=0.2)
    report, different = replay_all(records)
    assert different == []
    assert report.races == 300
    assert report.by_rank.total() == 300
    assert report.answered_share == 1
    assert [record.outcome["rank"] for record in records].count(1) == report.by_rank[1] > 30


def test_a_recording_that_was_tampered_with_is_not_reproduced() -> None:
    record = record_one([60, 20, 3])
    eager = json.loads(json.dumps(record["candidates"]).replace("25", "10"))
    for change in ({"limit_ms": 49.0}, {"answer": "first"}, {"candidates": eager}):
        tampered = RaceRecord.model_validate({**record, **change})
        assert not reproduces(tampered, replay(tampered))


def test_lines_that_are_no_races_are_passed_over_and_broken_ones_named() -> None:
    good = json.dumps(record_one([10]))
    others = ['{"event": "load"}', "", '{"event": "call refused", "model": "race"}', 'not JSON: "race"']
    assert len(list(read_records([good, *others, good.replace('": "', '":"')]))) == 2
    with pytest.raises(TbmsError, match=r"^Line 2: limit_ms: "):
        list(read_records([good, json.dumps({**record_one([10]), "limit_ms": "soon"})]))
    with pytest.raises(TbmsError, match=r"^Line 1: "):
        list(read_records([good[:-9]]))
    wrong = RaceRecord.model_validate_json(good.replace('"result", 0, 0', '"result", 7, 0'))
    with pytest.raises(TbmsError, match=r"rank 7\.0"):
        replay(wrong)


class TestWhatIf:
    def test_nothing_changed_comes_to_the_same_answers(self) -> None:
        records = recording(200, slow=0.2)
        assert what_if(records, WhatIf()).by_rank == replay_all(records)[0].by_rank

    def test_without_backups_slow_primaries_miss_the_limit(self) -> None:
        records = recording(400, slow=0.2)
        report = what_if(records, WhatIf(backups=False))
        slow = replay_all(records)[0].by_rank
        assert report.by_rank[0] == slow[0]
        assert report.errors == 400 - slow[0]
        assert report.extra_work == 0
        assert 0.7 < report.answered_share < 0.9

    def test_a_longer_limit_lets_the_primary_answer(self) -> None:
        records = recording(200, slow=0.2, limit=600)
        assert what_if(records, WhatIf()).by_rank == {0: 200}
        short = what_if(records, WhatIf(limit_ms=50))
        assert short.by_rank[1] > 20
        assert short.answered_share == 1
        never_seen_to_end = what_if(recording(200, slow=0.2), WhatIf(limit_ms=600))
        assert never_seen_to_end.by_rank[0] < 200

    def test_first_answers_sooner_from_worse_ranks(self) -> None:
        records = recording(200, slow=0.5)
        first = what_if(records, WhatIf(answer=AnswerMode.FIRST))
        assert first.by_rank[0] <= what_if(records, WhatIf()).by_rank[0]
        assert first.answered_share == 1

    def test_an_empty_budget_leaves_only_the_last_rank(self) -> None:
        records = recording(300, slow=0.3)
        rich, poor = what_if(records, WhatIf()), what_if(records, WhatIf(hedge_share=0.0, hedge_burst_ms=1.0))
        assert poor.hedged_ms < rich.hedged_ms
        assert poor.answered_share == 1
        assert poor.by_rank[1] == 0 < poor.by_rank[2]

    def test_estimates_move_the_starts(self) -> None:
        records = recording(100, slow=0.0)
        eager = what_if(records, WhatIf(estimates_ms={"svm": 40.0}))  # starts at 8 ms instead of 23
        assert eager.hedged_ms == 100 * 40
        assert what_if(records, WhatIf()).hedged_ms < 100 * 25

    def test_accuracy_is_that_of_the_ranks_that_answered(self) -> None:
        report = what_if(recording(100, slow=0.2), WhatIf())
        by_rank = {0: 0.9, 1: 0.8, 2: 0.5}
        expected = sum(by_rank[rank] * count for rank, count in report.by_rank.items()) / 100
        assert report.accuracy(by_rank) == pytest.approx(expected)
        assert 0.5 < report.accuracy(by_rank) < 0.9

    def test_an_empty_recording(self) -> None:
        report = what_if([], WhatIf())
        assert (report.races, report.answered_share, report.extra_work, report.accuracy({})) == (0, 0, 0, 0)
