"""The expressions of alerts and dashboards, and the metrics that they speak of."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.deploy.files import DEPLOY

RULES = DEPLOY / "prometheus/tbms.rules.yaml"
DASHBOARDS = ("edge", "nodes")

_SELECTOR = re.compile(r"\b((?:tbms|process)_\w+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring) \(([^)]*)\)")
_OF_PROMETHEUS = {"job", "instance", "le"}


def alerts() -> dict[str, dict[str, Any]]:
    """Name -> rule."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / f"grafana/{name}.json").read_text())
    return document


def queries(name: str) -> Iterator[tuple[str, str, str]]:
    """The panel, the legend and the expression of every query of a dashboard."""
    for panel in dashboard(name)["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["legendFormat"], target["expr"]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The names of metrics, each with the labels that are asked of it."""
    for name, labels in _SELECTOR.findall(expression):
        yield name, set(re.findall(r"(\w+)=", labels)) - _OF_PROMETHEUS


def groupings(expression: str) -> set[str]:
    """The labels that series are grouped or joined by."""
    found = {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")}
    return found - _OF_PROMETHEUS - {""}
