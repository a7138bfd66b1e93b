"""Renders Envoy configurations and reads them: finds their parts, evaluates their matchers, and asks real Envoys."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.envoy_config import EnvoySettings, GatheredCalls, render, render_node
from integration.stack.envoys import envoy_binary
from mesh.node import Node

VERSIONS = ("1.36", "1.38", "1.40")

ENVOY_FOLDER = Path(__file__).resolve().parents[3] / "envoy"
SOCKET = "unix:/run/tbms/ext_proc.sock"
NODES = (
    Node("a", grpc="10.0.0.1:8500", rest="10.0.0.1:8501"),
    Node("b", grpc="10.0.0.2:8500", rest="10.0.0.2:8501"),
)
DEFAULT = EnvoySettings()

Document = dict[str, Any]


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(text: str) -> Document:
    """One YAML document, by libyaml where it is there: that takes a tenth of the time."""
    document: Document = yaml.load(text, _LOADER)
    return document


@cache
def edge_document(settings: EnvoySettings = DEFAULT, version: str = "1.40", server: str = SOCKET) -> Document:
    return read(render(settings, version=version, server=server, nodes=NODES))


@cache
def node_document(
    version: str = "1.40",
    settings: EnvoySettings = DEFAULT,
    grpc: str = "127.0.0.1:8500",
    rest: str = "127.0.0.1:8501",
    hold_seconds: float = 300.0,
    gathered: GatheredCalls | None = None,
    server: str = SOCKET,
    known: str | None = None,
) -> Document:
    where = {"server": server, "grpc": grpc, "rest": rest}
    text = render_node(settings, version=version, **where, hold_seconds=hold_seconds, gathered=gathered, known=known)
    return read(text)


def manager(document: Document, listener: str = "clients") -> Document:
    found = {entry["name"]: entry for entry in document["static_resources"]["listeners"]}[listener]
    config: Document = found["filter_chains"][0]["filters"][0]["typed_config"]
    return config


def cluster(document: Document, name: str) -> Document:
    found: Document = {entry["name"]: entry for entry in document["static_resources"]["clusters"]}[name]
    return found


def everything(value: Any) -> Iterator[Any]:
    """Every mapping within."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from everything(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything(inner)


# What the matcher chooses: an evaluation of the rendered predicates.


def holds(predicate: Document, headers: Mapping[str, str]) -> bool:
    ((kind, inner),) = predicate.items()
    if kind == "single_predicate":
        value = headers.get(inner["input"]["typed_config"]["header_name"])
        ((how, wanted),) = inner["value_match"].items()
        if value is None:
            return False
        if how == "safe_regex":
            return re.fullmatch(wanted["regex"], value) is not None
        return value.startswith(wanted) if how == "prefix" else bool(value == wanted)
    if kind == "not_matcher":
        return not holds(inner, headers)
    parts = [holds(part, headers) for part in inner["predicate"]]
    return any(parts) if kind == "or_matcher" else all(parts)


def chosen(document: Document, headers: Mapping[str, str], listener: str = "clients") -> Document:
    """The external processor that a call with these headers meets, and the name of its branch."""
    filters = {each["name"]: each for each in manager(document, listener)["http_filters"]}
    matcher = filters["tbms"]["typed_config"]["xds_matcher"]
    hits = (entry["on_match"] for entry in matcher["matcher_list"]["matchers"] if holds(entry["predicate"], headers))
    action = next(hits, matcher["on_no_match"])["action"]
    return {"branch": action["name"], **action["typed_config"]["typed_config"]["typed_config"]}


def validate(version: str, config: Path) -> None:
    try:
        binary = envoy_binary(version)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    command = [str(binary), "--mode", "validate", "--log-level", "warning", "-c", str(config)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert "[warning]" not in outcome.stderr
    assert "deprecated" not in outcome.stderr.lower()
