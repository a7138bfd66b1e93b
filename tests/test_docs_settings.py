"""Settings that pages name exist, and the configurations that they show are valid."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from ext_proc.config import Config, parse
from mesh.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = [DOCS / f"{name}.md" for name in ("deployment", "kuma", "from-tfservingcache", "from-modelmesh")]
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


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_settings_that_a_guide_names_exist(page: Path) -> None:
    named = {path for path in SETTING.findall(page.read_text()) if not path.endswith((".pb", ".yaml"))}
    assert named
    assert {path for path in named if not exists(path)} == set()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_configurations_in_a_guide_are_valid(page: Path) -> None:
    for _, text in YAML.findall(page.read_text()):
        parse(dedent(text), page.name)


def test_what_does_not_exist_is_found() -> None:
    assert exists("node.cache.capacity.models")
    assert not exists("node.cache.capacity.modells")
    assert not exists("node.size")
