"""Writes docs/configuration.md, docs/metrics.md and docs/status.md anew, out of the code: `make docs`."""

import asyncio
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from pydantic import ConfigDict, TypeAdapter

from ext_proc.admin.documents import EdgeStatus, NodeStatus, ProcessStatus
from ext_proc.config import Config, parse
from ext_proc.process.role import role_of
from ext_proc.telemetry.access_logs import AccessLogReport
from ext_proc.telemetry.build import BuildInfo
from ext_proc.telemetry.listener import ListenerReport
from ext_proc.telemetry.metrics import Metrics
from ext_proc.tracing.exporting import SpanCounts

CONFIGURATION_HEAD = """\
# Configuration

One YAML file; `tbms check -c FILE` tells what is wrong with one, by place, value and rule. `nodes`, `models` and `limits` are taken over
by a reload, all else at a start. Written by `make docs` out of the settings themselves; do not edit.

A size is a number of bytes, or a text such as `64MiB`. What has no default and is not required is off, or empty.
"""
METRICS_HEAD = """\
# Metrics

What `/metrics` of the admin port tells, in the text format of Prometheus: of an edge, of a node, or of both. The label `model` has the
names of the 100 models that are used most, all others are `(other)`: [observing](observing.md) says how they are chosen, and has
dashboards and alerts. Histograms have the suffixes `_bucket`, `_sum` and `_count` there. Metrics of batches are there where something
is gathered, those of the map and of the recording where one is kept, that of spans where calls are traced. Written by `make docs` out of
what the roles measure; do not edit.

| metric | kind | labels | of | meaning |
|---|---|---|---|---|
"""
STATUS_HEAD = """\
# Status documents

What `/status` of the admin port answers: one JSON object, with the fields of `process`, those of `edge` or `node`, and `role`, which says
which. Later versions only add fields. Commands and the [dashboard](dashboard.md) read it. Written by `make docs` out of the types that
server and commands share; do not edit.
"""
EDGE = """
nodes: [{id: a, rest: "10.0.0.1:8501", models: [m]}]
known: {file: FOLDER/known.pb}
batching: {models: {m: {}}}
recording: {folder: FOLDER/recording}
"""
NODE = """
node:
  store: {url: "file://FOLDER"}
  cache: {folder: FOLDER, loader: {api: v2, address: "127.0.0.1:1"}}
  batching: {models: {m: {}}}
known: {file: FOLDER/known.pb}
envoy: {egress: "127.0.0.1:1", admin: "127.0.0.1:2"}
"""


def configuration() -> str:
    """The page of all settings, a table for each section."""
    schema = Config.model_json_schema()
    sections = _Sections(schema["$defs"])
    text = CONFIGURATION_HEAD
    for name, field in schema["properties"].items():
        text = f"{text.rstrip()}\n\n## `{name}`\n\n"
        if "description" in field:
            text += f"{_line(field['description'])}\n\n"
        text += sections.told(name, field)
    return text.rstrip() + "\n"


class _Sections:
    """The sections of the schema; each is told once, where it comes first. Fields of documents have no defaults."""

    def __init__(self, definitions: dict[str, Any], *, defaults: bool = True) -> None:
        self._definitions = definitions
        self._defaults = defaults
        self._told: dict[str, str] = {}

    def told(self, path: str, field: dict[str, Any]) -> str:
        """The tables of a field's sections, and of those inside."""
        return "".join(self._section(place, name) for place, name in self._inside(path, field))

    def _section(self, path: str, name: str) -> str:
        definition = self._definitions[name]
        if "properties" not in definition:
            return ""
        if name in self._told:
            return f"`{path}`: as `{self._told[name]}`.\n\n"
        self._told[name] = path
        told = _line(definition.get("description", ""))
        text = f"{told}\n\n" if path.isidentifier() else f"`{path}`: {told}\n\n"
        text += self._table(definition)
        text += "\n"
        for key, field in definition["properties"].items():
            text += self.told(f"{path}.{key}", field)
        return text

    def _table(self, definition: dict[str, Any]) -> str:
        required = definition.get("required", ())
        text = (
            "| setting | type | default | meaning |\n|---|---|---|---|\n"
            if self._defaults
            else "| field | type | meaning |\n|---|---|---|\n"
        )
        for key, field in definition["properties"].items():
            default = "required" if key in required else f"`{_default(field)}`"
            if default == "``" or (key not in required and "default" not in field):
                default = "none"
            cells = [f"`{key}`", self._type(field), default, _line(field.get("description", ""))]
            if not self._defaults:
                nothing = {"type": "null"} in field.get("anyOf", ())
                cells[1:3] = [
                    f"{cells[1]}{' or null' if nothing else ''}{'' if key in required else '; may be missing'}"
                ]
                cells[-1] = cells[-1].replace("None", "null")
            text += f"| {' | '.join(cells)} |\n"
        return text

    def _inside(self, path: str, field: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if "$ref" in field:
            yield path, field["$ref"].rpartition("/")[2]
        for each in (*field.get("anyOf", ()), *field.get("oneOf", ()), *field.get("allOf", ())):
            kind = self._kind(each)
            yield from self._inside(f"{path} {kind}".rstrip(), each)
        if isinstance(field.get("items"), dict):
            yield from self._inside(f"{path}[]", field["items"])
        if isinstance(field.get("additionalProperties"), dict):
            yield from self._inside(f"{path}.NAME", field["additionalProperties"])

    def _kind(self, field: dict[str, Any]) -> str:
        """`(kind: dns)` for one of several sections that are told apart by a word."""
        definition = self._definitions.get(field.get("$ref", "").rpartition("/")[2], {})
        kind = definition.get("properties", {}).get("kind", {}).get("const")
        return f"(kind: {kind})" if kind else ""

    def _type(self, field: dict[str, Any]) -> str:
        if "$ref" in field:
            definition = self._definitions[field["$ref"].rpartition("/")[2]]
            return self._type(definition) if "enum" in definition else "section"
        several = [each for each in field.get("anyOf", field.get("oneOf", ())) if each.get("type") != "null"]
        if _is_size(several):
            return ", ".join(["size", *_range(field)])
        if several:
            return " or ".join(dict.fromkeys(self._type(each) for each in several))
        if "const" in field:
            return f"`{field['const']}`"
        if "enum" in field:
            return ", ".join(f"`{each}`" for each in field["enum"])
        match field.get("type"):
            case "array":
                return f"list of {self._type(field['items'])}" if isinstance(field.get("items"), dict) else "list"
            case "object":
                inside = field.get("additionalProperties")
                return f"mapping of names to {self._type(inside)}" if isinstance(inside, dict) else "mapping"
            case "integer" | "number" as kind:
                return ", ".join(["whole number" if kind == "integer" else "number", *_range(field)])
            case "string":
                return "path" if field.get("format") == "path" else "text"
            case other:
                return str(other or "any")


def _is_size(several: list[dict[str, Any]]) -> bool:
    """Whether these are the two spellings of pydantic's ByteSize, or an optional one."""
    inside = [each for one in several for each in one.get("anyOf", [one])]
    return [each.get("type") for each in inside] == ["string", "integer"] and "pattern" in inside[0]


def _range(field: dict[str, Any]) -> Iterator[str]:
    words = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "under"}
    for key, word in words.items():
        if key in field:
            value = field[key]
            yield f"{word} {int(value):,}" if value == int(value) else f"{word} {value}"


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None or isinstance(value, dict):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _line(text: str) -> str:
    """A text of several lines on one, as a cell takes it."""
    return " ".join(text.split()).replace("|", "\\|")


def metrics() -> str:
    """The page of all metrics."""
    edge, node = asyncio.run(_families(EDGE)), asyncio.run(_families(NODE))
    text = METRICS_HEAD
    for name in sorted({**edge, **node}):
        kind, labels, meaning = {**edge, **node}[name]
        of = "both" if name in edge and name in node else "edge" if name in edge else "node"
        shown = f"{name}_total" if kind == "counter" else name
        text += f"| `{shown}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {of} | {_line(meaning)} |\n"
    return text


async def _families(configuration: str) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """By name the kind, labels and meaning of every metric that a process of that configuration tells."""
    with tempfile.TemporaryDirectory() as folder:
        role = role_of(parse(configuration.replace("FOLDER", folder), "docs"), asyncio.get_running_loop().time)
        async with role.running():
            of_process: list[Collector] = [
                Metrics(), ProcessCollector(registry=None), BuildInfo(role.name), ListenerReport(lambda: 0), SpanCounts(),
            ]  # fmt: skip
            if role.accounts is not None:
                of_process.append(AccessLogReport(lambda: 0))
            collectors = [*of_process, *role.collectors()]
            labels = dict(_labels(collectors))
            return {
                metric.name: (metric.type, tuple(labels.get(metric.name) or _labelnames(metric)), metric.documentation)
                for collector in collectors
                for metric in collector.collect()
            }


def _labels(collectors: Iterable[Collector]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The labels of metrics that prometheus-client keeps itself: what it tells has them only once they are used."""
    for collector in collectors:
        for kept in (collector, *vars(collector).values()):
            if isinstance(kept, MetricWrapperBase):
                yield kept._name, tuple(kept._labelnames)


def _labelnames(metric: Metric) -> Iterable[str]:
    return getattr(metric, "_labelnames", ())


def status() -> str:
    """The page of the documents that the admin port gives."""
    schema = TypeAdapter(
        ProcessStatus | EdgeStatus | NodeStatus, config=ConfigDict(use_attribute_docstrings=True)
    ).json_schema()
    sections = _Sections(schema["$defs"], defaults=False)
    text = STATUS_HEAD
    for of, document in (("process", ProcessStatus), ("edge", EdgeStatus), ("node", NodeStatus)):
        text = f"{text.rstrip()}\n\n## `{of}`\n\n{sections.told(of, {'$ref': document.__name__})}"
    return text.rstrip() + "\n"


def pages() -> dict[str, str]:
    """File name -> text of every page that is written here."""
    return {"configuration.md": configuration(), "metrics.md": metrics(), "status.md": status()}


def main() -> None:
    """Writes the files beside this one."""
    for name, text in pages().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
