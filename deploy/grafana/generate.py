"""Writes the Grafana dashboards of this folder anew, for edges and for nodes, from panels.yaml: `make dashboards`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_PANELS = Path(__file__).with_name("panels.yaml")
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'job=~"$job", instance=~"$instance"'
_COLUMNS, _HEIGHT = 3, 8


def dashboard(of: dict[str, Any]) -> dict[str, Any]:
    """One dashboard; its `chosen_by` is a metric that all processes of a kind have, and no others."""
    return {
        "uid": of["uid"],
        "title": of["title"],
        "description": of["told"],
        "tags": ["tbms"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables(of["chosen_by"]))},
        "panels": list(_panels(of["rows"])),
    }


def _variables(chosen_by: str) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    for name, query in (
        ("job", f"label_values({chosen_by}, job)"),
        ("instance", f'label_values({chosen_by}{{job=~"$job"}}, instance)'),
    ):
        yield {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": "All", "value": "$__all"},
        }


def _panels(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    number, y, width = 0, 0, 24 // _COLUMNS
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        yield {"id": number, "type": "row", "title": row["title"], "collapsed": False, "gridPos": place, "panels": []}
        y += 1
        for index, panel in enumerate(row["panels"]):
            number += 1
            place = {"x": index % _COLUMNS * width, "y": y + index // _COLUMNS * _HEIGHT, "w": width, "h": _HEIGHT}
            yield {"id": number, "gridPos": place, **_graph(panel)}
        y += -(-len(row["panels"]) // _COLUMNS) * _HEIGHT


def _graph(panel: dict[str, Any]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": expression.replace("HERE", _HERE), "legendFormat": legend}
        for index, (legend, expression) in enumerate(panel["queries"].items())
    ]
    limits = {"min": 0, "max": 1} if panel["unit"] == "percentunit" else {"min": 0}
    return {
        "type": "timeseries",
        "title": panel["title"],
        "description": panel["told"],
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel["unit"], **limits}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"datasource": _SOURCE, **target} for target in targets],
    }


def files() -> dict[str, str]:
    """File name -> text of every dashboard."""
    wanted = yaml.safe_load(_PANELS.read_text(encoding="utf-8"))["dashboards"]
    return {f"{name}.json": json.dumps(dashboard(of), indent=2) + "\n" for name, of in wanted.items()}


def main() -> None:
    """Writes the files beside this one."""
    for name, text in files().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
