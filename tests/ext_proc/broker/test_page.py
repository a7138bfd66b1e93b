"""docs/time-broker.md has every word that clients and operators meet."""

import re
from pathlib import Path

import pytest

from ext_proc.broker.deadline import HEADERS
from ext_proc.broker.effects import Why
from ext_proc.broker.settings import ModelSettings
from ext_proc.contract import ANSWER_HEADER

PAGE = (Path(__file__).parents[3] / "docs" / "time-broker.md").read_text()


def test_every_why_has_a_line() -> None:
    lines = re.findall(r"^\| `([a-z]+)` \|", PAGE.partition("| `why` | |")[2], re.MULTILINE)
    assert lines == [str(why) for why in Why]


@pytest.mark.parametrize("word", sorted({*HEADERS, ANSWER_HEADER, "grpc-timeout"}))
def test_every_header_is_described(word: str) -> None:
    assert f"`{word}`" in PAGE


@pytest.mark.parametrize("name", ModelSettings.model_fields)
def test_every_setting_of_a_model_has_its_meaning(name: str) -> None:
    assert f"`{name}`" in PAGE or f"**{name.removesuffix('s')}" in PAGE or f"**{name}" in PAGE
