"""Metrics and headers that documents, dashboards and alerts name exist, and every header has its row."""

import re
from collections.abc import Iterator
from pathlib import Path

from ext_proc import contract

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "integration/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DEPLOYED = [path for path in (ROOT / "deploy").rglob("*") if path.suffix in {".yaml", ".json", ".md"}]

# `tbms_races_total`, or several at once: `tbms_race*`, `tbms_(nodes|source_up)`.
METRIC = re.compile(r"(?<![\w/.])tbms_[a-z_]+(?:\*|\([a-z_|]+\))?")
HEADER = re.compile(r"(?<![\w/.-])(?:x-tbms-|tbms-(?=answer|key|session))[a-z-]+(?![\w-])")
# Functions, Envoy's name of the server, and what a metrics adapter makes by its rules.
NO_METRICS = {"tbms_try", "tbms_mix_try", "tbms_ext_proc", "tbms_cache_cold_calls_per_second"}


def metrics() -> set[str]:
    """Those of docs/metrics.md, which is what the code says, in all their forms."""
    rows = re.findall(r"^\| `(tbms_\w+)` \| (\w+) ", (ROOT / "docs/metrics.md").read_text(), re.M)
    assert len(rows) > 60
    names = {name for name, _ in rows}
    names |= {f"{name}{end}" for name, kind in rows if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    # In prose a counter may be named without its end.
    return names | {name.removesuffix("_total") for name, kind in rows if kind == "counter"}


def names_in(text: str) -> Iterator[str]:
    """The metrics that a text names, one by one."""
    for word in METRIC.findall(text):
        stem, _, several = word.partition("(")
        yield from (f"{stem}{each}" for each in several.rstrip(")").split("|"))


def exists(name: str, there: set[str]) -> bool:
    return any(each.startswith(name[:-1]) for each in there) if name.endswith(("*", "_")) else name in there


def test_metrics_that_are_named_exist() -> None:
    there = metrics() | NO_METRICS
    named = {(path.name, name) for path in (*DOCUMENTS, *DEPLOYED) for name in names_in(path.read_text())}
    assert len(named) > 100
    assert {(document, name) for document, name in named if not exists(name, there)} == set()
    assert not exists("tbms_race_total", there)


def test_every_header_has_its_row_and_every_named_one_exists() -> None:
    headers = {value for name, value in vars(contract).items() if name.endswith("_HEADER")}
    assert len(headers) > 15
    page = (ROOT / "docs/headers.md").read_text()
    rows = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z-]+)`", line.split(" | ")[0])
    }
    assert headers - rows == set()
    named = {(document.name, name) for document in DOCUMENTS for name in HEADER.findall(document.read_text())}
    assert {(document, name) for document, name in named if name not in headers} == set()
