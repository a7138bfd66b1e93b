import json
import os
import random
from pathlib import Path

import pytest

from mesh.model_cache.stores import clean_leftovers
from mesh.model_cache.stores.objects import MANIFEST, Listing, Object, Package, contents
from mesh.model_cache.stores.staging import Staging
from mesh.model_cache.stores.store import Remote, StoreCorrupt, StoreError, StoreTransient, partial
from tests.mesh.model_cache.stores.fetched import fetched

NOW = 2_000_000_000.0
FOREVER = NOW


def package(*files: tuple[str, int, str]) -> Package:
    return contents("m", Listing([Object(*each) for each in files])).packages["1"]


A, B, C = ("1/a", 4, "a"), ("1/deep/b", 6, "b"), ("config.pbtxt", 3, "c")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "m" / "1"


def begun(target: Path, **written: bytes) -> None:
    """An unfinished fetch of A, B and C: `a` and `b` are what has arrived of them."""
    staging = Staging(package(A, B, C), target)
    staging.open()
    for name, data in written.items():
        (each,) = [each for each in staging._package.objects if each.path.endswith(name)]
        staging.write(each, 0, data)
    staging.close()


def test_what_is_there_is_kept_file_by_file(target: Path) -> None:
    begun(target, a=b"aaaa", b=b"bbb")
    again = Staging(package(A, B, C), target)
    assert again.open() == {"1/a": 4, "1/deep/b": 3}
    again.close()


def test_a_file_that_changed_in_the_store_is_dropped_and_so_is_what_it_no_longer_has(target: Path) -> None:
    begun(target, a=b"aaaa", b=b"bbb")
    again = Staging(package(("1/a", 4, "new"), C), target)
    assert again.open() == {}
    assert [path.name for path in partial(target).rglob("*")] == [MANIFEST]
    again.close()


def test_a_file_may_become_a_folder_and_a_folder_a_file(target: Path) -> None:
    begun(target, a=b"aaaa", b=b"bbb")
    now = package(("1/a/x", 1, "x"), ("1/deep", 1, "y"))
    again = Staging(now, target)
    again.open()
    for each in now.objects:
        again.write(each, 0, b"z")
    again.publish()
    again.close()
    assert (target / "a/x").read_bytes() == (target / "deep").read_bytes() == b"z"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: b"",
        lambda note: b"[]",
        lambda note: b"{",
        lambda note: note[: len(note) // 2],
        lambda note: json.dumps({**json.loads(note), "boot": "another"}).encode(),
        lambda note: json.dumps({**json.loads(note), "files": [1]}).encode(),
    ],
)
def test_without_a_note_to_believe_nothing_is_kept(target: Path, spoil: object) -> None:
    begun(target, a=b"aaaa")
    note = partial(target) / MANIFEST
    assert callable(spoil)
    note.write_bytes(spoil(note.read_bytes()))
    again = Staging(package(A, B, C), target)
    assert again.open() == {}
    again.close()


def test_a_link_among_what_is_there_is_dropped_not_followed(target: Path, tmp_path: Path) -> None:
    begun(target, a=b"aaaa")
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    (partial(target) / "1/a").unlink()
    (partial(target) / "1/a").symlink_to(outside)
    again = Staging(package(A, B, C), target)
    assert again.open() == {}
    again.close()
    assert outside.read_bytes() == b"keep"


def test_a_file_that_is_too_short_is_never_published(target: Path) -> None:
    begun(target, a=b"aaaa", b=b"bbb", pbtxt=b"ccc")
    again = Staging(package(A, B, C), target)
    again.open()
    with pytest.raises(StoreCorrupt, match=r"has 3 bytes, not the 6"):
        again.publish()
    again.close()
    assert not target.exists()
    assert not target.with_name("config.pbtxt").exists()


def test_one_fetch_at_a_time(target: Path) -> None:
    first, second = Staging(package(A), target), Staging(package(A), target)
    first.open()
    with pytest.raises(StoreTransient, match="Another process is fetching"):
        second.open()
    second.close()
    first.close()
    assert second.open() == {}
    second.close()


def test_a_target_that_is_there_is_left_alone(target: Path) -> None:
    target.mkdir(parents=True)
    staging = Staging(package(A), target)
    with pytest.raises(StoreError, match="is there already"):
        staging.open()
    staging.close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match=r"m/1 cannot be written: Not a directory|File exists"):
        Staging(package(A), tmp_path / "m" / "1").open()


def test_what_a_folder_holds_is_known_without_the_store(target: Path) -> None:
    what = package(A)
    staging = Staging(what, target)
    staging.open()
    staging.write(what.own[0], 0, b"aaaa")
    staging.publish()
    staging.close()
    assert fetched(target) == Remote("m", 1, 4, what.digest)
    (target / MANIFEST).write_text("[]")
    assert fetched(target) is None
    assert fetched(target.with_name("2")) is None


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_fetch_that_can_go_on_is_kept_until_it_is_old(target: Path) -> None:
    begun(target, a=b"aa")
    for path in partial(target).rglob("*"):
        os.utime(path, (NOW, NOW))
    assert clean_leftovers(target.parent.parent, NOW + 99, 100) == 0
    assert leftovers(target) == [".1.part"]
    assert clean_leftovers(target.parent.parent, NOW + 101, 100) == 1
    assert leftovers(target) == []


def test_a_fetch_that_is_complete_or_cannot_go_on_is_removed(target: Path) -> None:
    begun(target, a=b"aa")
    target.mkdir()
    other = target.with_name("2")
    begun(other, a=b"aa")
    (partial(other) / MANIFEST).unlink()
    assert clean_leftovers(target.parent.parent, NOW, FOREVER) == 2
    assert leftovers(target) == ["1"]


def test_a_fetch_that_lives_is_left_alone(target: Path) -> None:
    staging = Staging(package(A), target)
    staging.open()
    assert clean_leftovers(target.parent.parent, NOW + 1000, 0) == 0
    assert leftovers(target) == [".1.part"]
    staging.close()


def test_there_may_be_no_cache_yet(tmp_path: Path) -> None:
    assert clean_leftovers(tmp_path / "none", NOW, 0) == 0


def test_no_system_call_copies_a_whole_part(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(1_000_003)
    sizes: list[int] = []
    pwrite = os.pwrite

    def counted(file: int, part: bytes, offset: int) -> int:
        sizes.append(len(part))
        return pwrite(file, part[: 1 + len(part) // 2], offset)  # a disk may take less than it is given

    monkeypatch.setattr(os, "pwrite", counted)
    whole = package(("1/big", len(data), "etag"))
    (big,) = whole.objects
    staging = Staging(whole, target)
    staging.open()
    staging.write(big, 0, data[:700_000])
    staging.write(big, 700_000, data[700_000:])
    staging.publish()
    staging.close()
    assert (target / "big").read_bytes() == data
    assert max(sizes) <= 256 * 1024
