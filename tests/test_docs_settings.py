"""Settings that pages name exist, and the configurations that they show are valid."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from ext_proc.config import Config, parse
from mesh.settings import Settings

ROOT = Path(__file__).parents[1]
# That of the documents of /status speaks of fields of these.
DOCUMENTS = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "status.md")]
# A namespace of Envoy's metadata, and files, by their looks.
NO_SETTINGS = re.compile(r"envoy\.lb|.*\.(?:pb|yaml)")
# What a node cannot do without, for pages that show other parts of its section.
LEAST = {
    "store": {"url": "file:///models"},
    "cache": {"folder": "/tmp", "loader": {"api": "v2", "address": "127.0.0.1:1"}},
}
SECTIONS = "|".join(Config.model_fields)
SETTING = re.compile(rf"`((?:{SECTIONS})\.[a-z_.]+)(?:\[\])?(?:\.[a-z_]+)?(?:: [^`]*)?`")
YAML = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.M | re.S)


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in a field's type: `Settings | None`, `dict[str, Settings]` and so on."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def exists(path: str) -> bool:
    owners: list[type[BaseModel]] = [Config]
    for name in path.split("."):
        fields = [owner.model_fields[name] for owner in owners if name in owner.model_fields]
        if not fields:
            return False
        owners = [found for field in fields for found in sections(field.annotation)]
    return True


def test_settings_that_documents_name_exist() -> None:
    named = {(page.name, path) for page in DOCUMENTS for path in SETTING.findall(page.read_text())}
    assert len(named) > 150
    assert {(page, path) for page, path in named if not NO_SETTINGS.fullmatch(path) and not exists(path)} == set()


def test_configurations_in_documents_are_valid() -> None:
    """Other files, such as Prometheus' own, have no key of ours at their top, and Envoy's have one of their own."""
    valid = 0
    for page in DOCUMENTS:
        for _, text in YAML.findall(page.read_text()):
            document = yaml.safe_load(dedent(text))
            if "static_resources" not in document and document.keys() & Config.model_fields.keys():
                if "node" in document:
                    document["node"] = {**LEAST, **document["node"]}
                parse(yaml.safe_dump(document), page.name)
                valid += 1
    assert valid > 15


def test_what_does_not_exist_is_found() -> None:
    assert exists("node.cache.capacity.models")
    assert not exists("node.cache.capacity.modells")
    assert not exists("node.size")
