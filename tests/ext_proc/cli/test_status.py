"""What `tbms status`, `top` and `nodes` make of documents, where a real process would take long to come to them."""

from typing import Any

import pytest

from ext_proc.admin.documents import KnownMapStatus
from ext_proc.cli.nodes import rows_of
from ext_proc.cli.status import lines, map_line
from ext_proc.cli.top import look, picture
from tests.ext_proc.cli.test_models import console, edge_status, entry, node_status, text

MAP: KnownMapStatus = {
    "file": "/run/known.pb",
    "version": "ab.7",
    "models": 12,
    "bytes": 3456,
    "age_seconds": 65.0,
    "envoys_version": "ab.7",
    "envoys_models": 12,
    "envoys_bytes": 3456,
    "envoys_age_seconds": 61.0,
    "taken": True,
    "refused": 0,
    "cause": None,
}
OLD: dict[str, Any] = {"taken": False, "envoys_version": "ab.6", "envoys_models": 11, "refused": 2}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "version ab.7, 12 models, 3.5 kB, 1 min old; in force in Envoy for 1 min"),
        (OLD, "version ab.7, 12 models, 3.5 kB, 1 min old; Envoy has version ab.6 (11 models), 2 refused"),
        (
            {"taken": None, "cause": "It is away."},
            "version ab.7, 12 models, 3.5 kB, 1 min old; Envoy does not tell what it has: It is away.",
        ),
        ({"version": None}, "not written yet"),
    ],
)
def test_the_map_is_told_of_both_sides(changes: dict[str, Any], line: str) -> None:
    assert map_line({**MAP, **changes}) == line  # type: ignore[typeddict-item]


def known_node(name: str, **changes: Any) -> dict[str, Any]:
    told = {"grpc": None, "rest": "10.0.0.1:8501", "zone": "", "weight": 1.0, "alive": True, "cause": None, "load": 0.0}
    return {"id": name, **told, "declared_models": 0, "residency": None, **changes}


def residency(**changes: Any) -> dict[str, Any]:
    told = {"address": "10.0.0.1:9903", "heard": True, "cause": None, "leaving": False, "free_models": 3.0}
    return {**told, **changes}


def edge() -> Any:
    status: Any = edge_status({"bert": {"a": "available", "b": "loading"}})
    status["nodes"] = [
        known_node("a", load=2.5, residency=residency()),
        known_node("b", alive=False, cause="connection refused"),
        known_node("c", residency=residency(leaving=True)),
        known_node("d", residency=residency(heard=False, cause="no answer")),
    ]
    status["calls"] = {"known": 30, "routed": 10}
    status["logs"] = 1
    status["known"] = MAP
    status["ways"] = {"known": 30, "known_share": 0.75, "asked": {"decided": {"unmapped": 7, "more": 3}}}
    down = {"nodes": 3, "stale": True, "heard_seconds_ago": 90.0, "down_seconds": 90.0, "held_back": []}
    status["sources"] = [{"name": "dns", "cause": "no answer", **down}]
    return status


def test_the_state_of_a_node_is_told_with_its_cause() -> None:
    rows = {row.node: row for row in rows_of([("e:1", edge())])}
    assert {name: (row.state, row.why) for name, row in rows.items()} == {
        "a": ("alive", ""),
        "b": ("dead", "connection refused"),
        "c": ("leaving", ""),
        "d": ("not heard", "no answer"),
    }
    assert (rows["a"].models, rows["a"].load, rows["a"].free) == (1, 2.5, "3 models")
    away: Any = {**node_status(entry("bert", in_flight=2)), "model_server": "refused the connection"}
    away["free"] = {"models": 4, "disk_bytes": 2000, "memory_bytes": None}
    (itself,) = rows_of([("n:1", away)])
    assert (itself.state, itself.why, itself.load, itself.free) == (
        "server away",
        "refused the connection",
        2,
        "4 models, 2.0 kB of disk",
    )


def test_an_edge_in_sentences() -> None:
    told = list(lines("e:1", edge()))
    assert told[0] == "edge e:1: up for 1 s, tbms.yaml"
    assert "  calls: 30 known, 10 routed; 0 in work" in told
    assert "  ways: known 30 (75.0 %), decided 10 (unmapped 7, more 3)" in told
    assert "  nodes: 3 of 4 alive, 2.5 calls in flight, 0 left out" in told
    assert "  source dns: down for 2 min: no answer" in told
    unseen = {**edge(), "logs": 0}
    assert any("known calls are not counted" in line for line in lines("e:1", unseen))  # type: ignore[arg-type]
    unseen["ways"] = {"known": 0, "known_share": 0.0, "asked": {}}
    assert any("the first known call opens it" in line for line in lines("e:1", unseen))  # type: ignore[arg-type]


def test_without_a_map_it_is_said_why() -> None:
    line = "  map of known calls: none, since known.enabled is off"
    assert line not in list(lines("e:1", edge()))
    for status in (edge(), node_status(entry("bert"))):
        assert line in list(lines("p:1", {**status, "known_off": "known.enabled is off"}))


def test_rates_are_of_what_came_since_the_last_look() -> None:
    status = edge()
    first = look("e:1", status, None, 2.0, {})
    assert (first.rates, first.known_share) == (None, None)
    status["calls"] = {"known": 60, "routed": 20, "refused": 2}
    second = look("e:1", status, first.calls, 2.0, {})
    assert second.rates == {"known": 15.0, "routed": 5.0, "refused": 1.0}
    assert second.known_share == pytest.approx(15 / 21)
    assert second.nodes[0].node == "a", "the busiest first"
    out = console()
    out.print(picture([second, look("n:1", node_status(entry("bert", in_flight=3)), {}, 2.0, {"n:1": "node-a"})]))
    shown = text(out)
    assert "21.0" in shown
    assert "node-a  itself" in shown
    assert "71.4 %" in shown
    assert "bert" in shown


def test_a_process_that_began_anew_has_no_negative_rates() -> None:
    status = edge()
    assert look("e:1", status, {"known": 500, "routed": 5}, 1.0, {}).rates == {"routed": 5.0}
