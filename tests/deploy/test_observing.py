"""Dashboards and alerts speak of metrics that edges and nodes have, and alerts fire when they should, and only then."""

import asyncio
import runpy
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.peers.prometheus import binary
from tests.deploy.expressions import DASHBOARDS, RULES, alerts, groupings, queries, selectors
from tests.deploy.files import DEPLOY

_DOCS = runpy.run_path(str(DEPLOY.parent / "docs/generate.py"))


def exposed(configuration: str) -> dict[str, set[str]]:
    """The series that a process of that configuration gives: name -> labels."""
    found: dict[str, set[str]] = {}
    for name, (kind, labels, _) in asyncio.run(_DOCS["_families"](configuration)).items():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
        found |= {name + end: set(labels) for end in ends}
    return found


EDGE, NODE = exposed(_DOCS["EDGE"]), exposed(_DOCS["NODE"])


def wrong(expression: str, series: Mapping[str, set[str]]) -> list[str]:
    """What of an expression is not there."""
    asked = list(selectors(expression))
    faults = [name for name, _ in asked if name not in series]
    faults += [f"{name}{{{label}}}" for name, labels in asked for label in labels - series.get(name, labels)]
    held = {label for name, _ in asked for label in series.get(name, ())}
    return faults + sorted(groupings(expression) - held)


def test_what_is_not_there_is_found() -> None:
    assert wrong('sum by (why) (rate(tbms_races_total{HERE, outcome="x"}[1m]))', EDGE) == []
    assert wrong("sum by (rank) (rate(tbms_races_total[1m]))", EDGE) == ["rank"]
    assert wrong('tbms_races_total{modle="x"} > tbms_nothing', EDGE) == ["tbms_nothing", "tbms_races_total{modle}"]
    assert wrong("tbms_nodes", NODE) == ["tbms_nodes"]


@pytest.mark.parametrize(("name", "series"), [("edge", EDGE), ("nodes", NODE)])
def test_dashboards_show_metrics_that_such_a_process_has(name: str, series: Mapping[str, set[str]]) -> None:
    found = {(title, legend): wrong(expression, series) for title, legend, expression in queries(name)}
    assert len(found) > 30
    assert {which: faults for which, faults in found.items() if faults} == {}
    labels = [
        (title, legend)
        for title, legend, expression in queries(name)
        if set(_labels_of(legend)) - groupings(expression) - {"instance"}
    ]
    assert labels == [], "a legend with a label that its series do not have"


def _labels_of(legend: str) -> Iterable[str]:
    return [part.split("}}")[0] for part in legend.split("{{")[1:]]


def test_dashboards_are_those_of_their_table() -> None:
    written = runpy.run_path(str(DEPLOY / "grafana/generate.py"))["files"]()
    assert set(written) == {f"{name}.json" for name in DASHBOARDS}
    for name, text in written.items():
        assert (DEPLOY / "grafana" / name).read_text() == text, "run: make dashboards"


def test_every_metric_of_an_alert_is_one_of_an_edge_or_a_node() -> None:
    found = {name: wrong(rule["expr"], {**NODE, **EDGE}) for name, rule in alerts().items()}
    assert {name: faults for name, faults in found.items() if faults} == {}


@dataclass(frozen=True)
class Case:
    """Series by minute in promtool's words, and whether the alert fires at minute `at`."""

    alert: str
    fires: bool
    series: Mapping[str, str]
    at: int


def both(alert: str, at: int, firing: Mapping[str, str], quiet: Mapping[str, str]) -> tuple[Case, Case]:
    return Case(alert, True, firing, at), Case(alert, False, quiet, at)


def one(alert: str, at: int, series: str, firing: str, quiet: str) -> tuple[Case, Case]:
    return both(alert, at, {series: firing}, {series: quiet})


CALLS, REFUSED = 'tbms_calls_total{outcome="routed"}', 'tbms_calls_total{outcome="refused"}'
LATE, IN_TIME = 'tbms_races_in_time_total{answered="no"}', 'tbms_races_in_time_total{answered="yes"}'
WITHIN_25_US = 'tbms_decision_seconds_bucket{waited="nothing",le="2.5e-05"}'
WITHIN_1_MS = 'tbms_decision_seconds_bucket{waited="nothing",le="0.001"}'
WITHIN_10_MS = 'tbms_decision_seconds_bucket{waited="nothing",le="0.01"}'
ALL = 'tbms_decision_seconds_bucket{waited="nothing",le="+Inf"}'
COLD, UNLOADS = "tbms_cache_cold_calls_total", "tbms_cache_unloads_total"
CASES = [
    case
    for pair in (
        one("TbmsDown", 5, 'up{job="tbms-edge"}', "1 1 0x8", "1 0 1x8"),
        both("TbmsRefuses", 20, {CALLS: "0+540x30", REFUSED: "0+60x30"}, {CALLS: "0+540x30", REFUSED: "0+6x30"}),
        # Half of all calls, but one in ten minutes.
        both("TbmsRefuses", 20, {CALLS: "0+540x30", REFUSED: "0+60x30"}, {CALLS: "0x9 1x30", REFUSED: "0x9 1x30"}),
        both(
            "TbmsSlow",
            25,
            {WITHIN_1_MS: "0+500x30", WITHIN_10_MS: "0+600x30", ALL: "0+600x30"},
            {WITHIN_25_US: "0+500x30", WITHIN_1_MS: "0+599x30", WITHIN_10_MS: "0+600x30", ALL: "0+600x30"},
        ),
        one("TbmsReloadRefused", 5, 'tbms_config_reloads_total{result="refused"}', "0 0 1x5", "1x10"),
        one("TbmsOutOfDescriptors", 5, "tbms_accept_failures_total", "0 0 0 3x5", "3x10"),
        one("TbmsDrainsForLong", 20, "tbms_draining", "1x30", "1x10 0x20"),
        both(
            "TbmsNodesDown", 8,
            {"tbms_nodes": "3x10", "tbms_nodes_alive": "2x10"}, {"tbms_nodes": "3x10", "tbms_nodes_alive": "2 3x10"},
        ),
        both(
            "TbmsNoNodeAlive", 3,
            {"tbms_nodes": "0x10", "tbms_nodes_alive": "0x10"}, {"tbms_nodes": "3x10", "tbms_nodes_alive": "3x10"},
        ),
        one("TbmsSourceDown", 8, 'tbms_source_up{source="etcd"}', "0x10", "0 0 0 1x10"),
        # That of a fleet whose nodes tell nothing is no loss.
        one("TbmsResidencyLost", 15, "tbms_nodes_heard", "3x5 0x20", "0x30"),
        one("TbmsEgressUnreachable", 3, "tbms_egress_reachable", "0x10", "1x10"),
        both("TbmsLate", 20, {LATE: "0+60x30", IN_TIME: "0+540x30"}, {LATE: "0+6x30", IN_TIME: "0+594x30"}),
        both(
            "TbmsHedgeBudgetSpent", 20,
            {"tbms_hedge_budget_seconds": "0.001x30", LATE: "0+1x30", IN_TIME: "0+600x30"},
            {"tbms_hedge_budget_seconds": "1x30", LATE: "0+1x30", IN_TIME: "0+600x30"},
        ),
        one("TbmsUnbrokered", 2, 'tbms_calls_unbrokered_total{envoy="1.36",protocol="tfs-grpc"}', "1x5", "0x5"),
        one("TbmsKnownMapRefused", 8, "tbms_known_map_taken", "0x10", "0 1x10"),
        one("TbmsKnownMapNotWritten", 10, "tbms_known_map_failures_total", "0+1x20", "4x20"),
        one("TbmsModelServerDown", 3, "tbms_cache_model_server_up", "0x10", "1x10"),
        one("TbmsLoadsFail", 15, 'tbms_cache_loads_total{outcome="failed"}', "0+1x20", "0x10 2x10"),
        one("TbmsModelFailed", 20, 'tbms_cache_models{state="failed"}', "1x30", "1x10 0x20"),
        one("TbmsNotRegistered", 8, 'tbms_node_registered{service="etcd"}', "0x10", "0 0 0 1x10"),
        one("TbmsStoreAway", 15, "tbms_cache_store_failures", "2x20", "2x5 0x20"),
        both(
            "TbmsCacheTooSmall", 90,
            {COLD: "0+20x100", UNLOADS: "0+20x100", CALLS: "0+100x100"},
            # Filling an empty cache throws nothing out.
            {COLD: "0+20x100", UNLOADS: "0x100", CALLS: "0+100x100"},
        ),
        both(
            "TbmsCallsShed", 20,
            {'tbms_calls_dropped_total{model="m",why="late"}': "0+5x30", CALLS: "0+100x30"},
            {'tbms_calls_dropped_total{model="m",why="late"}': "0+1x30", CALLS: "0+200x30"},
        ),
        one("TbmsBatchesDiffer", 10, 'tbms_batch_checks_total{model="m",same="no"}', "0x5 1x10", "0x20"),
    )
    for case in pair
]  # fmt: skip


def test_every_alert_has_series_for_which_it_fires_and_for_which_it_does_not() -> None:
    for fires in (True, False):
        assert {case.alert for case in CASES if case.fires is fires} == set(alerts())


def promtool(*arguments: str | Path) -> str:
    try:
        tool = binary("promtool")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_nothing_to_say_about_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_alerts_fire_when_they_should_and_no_other_one_does(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    tests = [_as_test(case) for case in CASES]
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", file)


def _as_test(case: Case) -> dict[str, Any]:
    series = [{"series": _placed(name), "values": values} for name, values in case.series.items()]
    firing = [{"labels": f'{{alertname="{case.alert}"}}', "value": 1}] if case.fires else []
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    asked = {"expr": expression, "eval_time": f"{case.at}m", "exp_samples": firing}
    return {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}


def _placed(series: str) -> str:
    """The series as of one process."""
    name, _, labels = series.partition("{")
    of = [*filter(None, labels.removesuffix("}").split(",")), 'instance="10.0.0.1:9902"']
    if "job=" not in labels:
        of.append('job="tbms"')
    return f"{name}{{{','.join(of)}}}"
