import math
import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_server.errors import ServingError
from mesh.model_server.repository import (
    KNOBS_FILE,
    Keep,
    Knobs,
    Repository,
    VersionPolicy,
    is_valid_name,
    knobs,
    versions,
)


@given(st.text(max_size=300))
def test_a_valid_name_is_one_folder_of_the_root(name: str) -> None:
    if is_valid_name(name):
        assert Path(os.path.normpath(f"/root/{name}")).parent == Path("/root")
        assert name.encode().decode() == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "a\0", "a\nb", "\ud800", "x" * 256])
def test_unsafe_names(name: str, tmp_path: Path) -> None:
    assert not is_valid_name(name)
    assert Repository(tmp_path).base(name) is None


def test_versions_are_the_folders_with_numbers(tmp_path: Path) -> None:
    for folder in ("1", "10", "002", "a", "-1", "1.5", "٣", "9" * 19, "1" * 30):
        (tmp_path / folder).mkdir()
    (tmp_path / "7").write_text("a file")
    (tmp_path / "01").mkdir()  # TF Serving takes the last one listed
    assert versions(tmp_path) == {1: tmp_path / "1", 2: tmp_path / "002", 10: tmp_path / "10"}


@given(st.sets(st.integers(0, 50)), st.integers(0, 5), st.frozensets(st.integers(0, 50)))
def test_policies(present: set[int], count: int, named: frozenset[int]) -> None:
    assert VersionPolicy().choose(present) == sorted(present)[-1:]
    assert VersionPolicy(count=count).choose(present) == sorted(present)[-max(count, 1) :]
    assert VersionPolicy(Keep.ALL).choose(present) == sorted(present)
    assert VersionPolicy(Keep.SPECIFIC, versions=named).choose(present) == sorted(present & named)


def test_base_paths_stay_inside(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root, other):
        folder.mkdir()
    (root / "link").symlink_to(other)
    repository = Repository(root)
    assert repository.admits(root / "model")
    assert not repository.admits(root / ".." / "other")
    assert not repository.admits(root / "link")
    assert not repository.admits(Path("/"))


def test_knobs(tmp_path: Path) -> None:
    assert knobs(tmp_path) == Knobs()
    (tmp_path / KNOBS_FILE).write_text('{"delay_ms": 5, "memory_bytes": 7}')
    assert knobs(tmp_path) == Knobs(delay_ms=5, memory_bytes=7)


def test_a_delay_is_fixed_unless_it_has_a_spread() -> None:
    dice = Random(1)
    assert Knobs(delay_ms=5).delay(dice) == 0.005
    drawn = sorted(Knobs(delay_ms=5, delay_sigma=0.5).delay(dice) for _ in range(2001))
    assert drawn[1000] == pytest.approx(0.005, rel=0.05)
    assert drawn[1900] == pytest.approx(0.005 * math.exp(0.5 * 1.645), rel=0.1)  # the 95th percentile


@pytest.mark.parametrize("text", ["{", '{"delay": 5}', '{"delay_ms": -1}'])
def test_wrong_knobs_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / KNOBS_FILE).write_text(text)
    with pytest.raises(ServingError, match=KNOBS_FILE):
        knobs(tmp_path)
