"""What is told of a race: metrics by model and rank, and a line of the log that can be replayed."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from ext_proc.broker.effects import Cancel
from ext_proc.broker.plan import Candidate, How, Mix
from ext_proc.broker.record import read_records
from ext_proc.broker.replay import replay_all
from ext_proc.telemetry.logs import JsonFormatter
from ext_proc.telemetry.metrics import exposition
from ext_proc.telemetry.model_labels import ModelLabels
from ext_proc.telemetry.races import RaceReport
from tests.ext_proc.broker.rules import Arena, single
from tests.ext_proc.racing.scene import held


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the log takes."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("tbms.races")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def arena(*names: str, limit: float = 50) -> Arena:
    return Arena([single(name) for name in names], [10.0] * len(names), limit, margin_ms=2)


def names(*known: str) -> ModelLabels:
    """Labels for these models, and for every one where there are none."""
    return ModelLabels(lambda model: not known or model in known, lambda: 0.0)


def metrics(report: RaceReport) -> dict[str, float]:
    text = exposition(report.collectors()).decode()
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def backed_up() -> Arena:
    """The primary hangs, the backup answers: returned at T - m."""
    race = arena("bert", "svm")
    race.begin()
    race.sleep_until_wake_up()
    race.now = 15.0
    race.result((1, 0))
    race.sleep_until_wake_up()
    return race


def test_an_answer_by_a_backup() -> None:
    done = backed_up()
    report = RaceReport(done.budget, names())
    report(done.race, held())
    told = metrics(report)
    assert told['tbms_races_total{outcome="answer",why="overdue"}'] == 1
    assert told['tbms_races_in_time_total{answered="yes"}'] == 1
    assert told['tbms_candidates_total{fate="won",model="svm",rank="1"}'] == 1
    assert told['tbms_candidates_total{fate="late",model="bert",rank="0"}'] == 1
    assert told['tbms_race_seconds_sum{model="m",rank="1"}'] == pytest.approx(0.048)
    assert told["tbms_race_slack_seconds_sum"] == pytest.approx(0.002)
    assert told["tbms_hedge_budget_seconds"] == done.budget.level_ms / 1000


def test_races_as_status_tells_them() -> None:
    done = backed_up()
    report = RaceReport(done.budget, names())
    report(done.race, held())
    told = report.status()
    assert told["in_time"] == {"yes": 1, "no": 0}
    assert told["endings"] == {"answer": {"overdue": 1}}
    assert told["candidates"] == {"0": {"late": 1}, "1": {"won": 1}}
    assert told["seconds"]["1"]["sum"] == pytest.approx(0.048)
    assert told["budget_ms"] == pytest.approx(done.budget.level_ms, abs=0.001)


def test_a_loser_is_cancelled_and_an_answer_held_for_nothing_is_lost() -> None:
    race = arena("bert", "svm", "bayes")
    race.begin()
    race.sleep_until_wake_up()  # svm
    race.sleep_until_wake_up()  # bayes
    race.now = 25.0
    race.result((1, 0))
    race.now = 26.0
    race.result((0, 0))
    report = RaceReport(race.budget, names())
    report(race.race, held())
    told = metrics(report)
    fates = {name for name in told if name.startswith("tbms_candidates_total")}
    assert fates == {
        'tbms_candidates_total{fate="won",model="bert",rank="0"}',
        'tbms_candidates_total{fate="lost",model="svm",rank="1"}',
        'tbms_candidates_total{fate="cancelled",model="bayes",rank="2"}',
    }


def test_failures_and_no_answer() -> None:
    race = arena("bert", "svm")
    race.begin()
    race.fails((0, 0))
    race.sleep_until_wake_up()
    report = RaceReport(race.budget, names())
    report(race.race, held())
    told = metrics(report)
    assert told['tbms_races_total{outcome="fail",why="deadline"}'] == 1
    assert told['tbms_races_in_time_total{answered="no"}'] == 1
    assert told['tbms_candidates_total{fate="failed",model="bert",rank="0"}'] == 1
    assert told['tbms_candidates_total{fate="late",model="svm",rank="1"}'] == 1
    assert told['tbms_race_seconds_count{model="m",rank="none"}'] == 1


def test_a_fallback_is_not_an_answer_in_time() -> None:
    race = Arena([single("bert")], [10.0], 50, fallback=True)
    race.begin()
    race.sleep_until_wake_up()
    report = RaceReport(race.budget, names())
    report(race.race, held())
    told = metrics(report)
    assert told['tbms_races_total{outcome="fallback",why="deadline"}'] == 1
    assert told['tbms_races_in_time_total{answered="no"}'] == 1


def test_a_client_that_left_counts_in_no_share() -> None:
    race = arena("bert", "svm")
    race.begin()
    effects = race.race.cancelled(race.arrival + 0.005)
    assert [type(effect) for effect in effects] == [Cancel]
    report = RaceReport(race.budget, names())
    report(race.race, held())
    told = metrics(report)
    assert told['tbms_races_total{outcome="gone",why=""}'] == 1
    assert not any(name.startswith("tbms_race_seconds_count") for name in told)
    assert {told[f'tbms_races_in_time_total{{answered="{answered}"}}'] for answered in ("yes", "no")} == {0}
    assert told['tbms_candidates_total{fate="cancelled",model="bert",rank="0"}'] == 1


def test_members_of_a_mix_are_told_by_their_own_names() -> None:
    race = Arena([Mix((Candidate("a"), Candidate("b")), How.AVG)], [10.0], 50)
    race.begin()
    race.result((0, 0))
    race.sleep_until_wake_up()
    report = RaceReport(race.budget, names())
    report(race.race, held())
    told = metrics(report)
    assert told['tbms_candidates_total{fate="won",model="a",rank="0"}'] == 1
    assert told['tbms_candidates_total{fate="late",model="b",rank="0"}'] == 1


def test_a_name_that_only_a_request_has_said_makes_no_label() -> None:
    report = RaceReport(arena("a").budget, names("known"))
    for name in ("never-heard-of", "known"):
        race = arena(name)
        race.begin()
        race.race.cancelled(race.arrival)
        report(race.race, held())
    answered = arena("answers")
    answered.begin()
    answered.result((0, 0))
    report(answered.race, held())
    counted = {name for name in metrics(report) if name.startswith("tbms_candidates_total")}
    assert counted == {
        'tbms_candidates_total{fate="cancelled",model="(other)",rank="0"}',
        'tbms_candidates_total{fate="cancelled",model="known",rank="0"}',
        'tbms_candidates_total{fate="won",model="answers",rank="0"}',
    }
    assert any(name.startswith('tbms_race_seconds_count{model="(other)"') for name in metrics(report))


def test_the_line_of_the_log_is_a_recording(lines: io.StringIO) -> None:
    report = RaceReport(arena("a").budget, names())
    for race in (backed_up(), backed_up()):
        report(race.race, held(x_request_id="7-a"))
    text = lines.getvalue().splitlines()
    first = json.loads(text[0])
    assert (first["event"], first["request_id"], first["level"]) == ("race", "7-a", "info")
    records = list(read_records(text))
    summary, different = replay_all(records)
    assert (summary.races, summary.by_rank, different) == (2, {1: 2}, [])


def test_no_record_is_made_where_the_log_does_not_take_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[object] = []
    monkeypatch.setattr("ext_proc.telemetry.races.race_json", lambda race, _: made.append(race) or "")
    report = RaceReport(arena("a").budget, names())
    for level in (logging.WARNING, logging.INFO):
        caplog.set_level(level, logger="tbms.races")
        report(backed_up().race, held())
    assert len(made) == 1
