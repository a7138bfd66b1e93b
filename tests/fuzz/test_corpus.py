"""Every target takes its seeds and what once found something: only documented errors come out."""

from pathlib import Path

import pytest

from tests.fuzz.alarm import alarmed
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FINDS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_a_target_find_nothing(name: str) -> None:
    target = TARGETS[name]
    with alarmed():
        for data in (b"", *target.seeds, *target.words, b"".join(target.words)):
            target.run(data)


@pytest.mark.parametrize("path", FINDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_stays_mended(path: Path) -> None:
    with alarmed():
        TARGETS[path.parent.name].run(path.read_bytes())


def test_every_folder_of_the_corpus_is_a_targets() -> None:
    assert {path.parent.name for path in FINDS} <= TARGETS.keys()
