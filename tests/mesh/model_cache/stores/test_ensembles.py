"""Ensembles in stores: made of other models, with versions that need no file."""

from pathlib import Path

import pytest

from mesh.model_cache.books.needs import MAX_NEEDED, Need
from mesh.model_cache.config_pbtxt import MAX_BYTES
from mesh.model_cache.stores import open_store
from mesh.model_cache.stores.object_store import ObjectStore
from mesh.model_cache.stores.objects import Listing, Object, contents
from mesh.model_cache.stores.store import StoreCorrupt
from tests.mesh.model_cache.stores.scripted_s3 import scripted_s3
from tests.mesh.model_cache.stores.shelves import DiskShelf, S3Shelf, Shelf
from tests.mesh.model_cache.stores.test_fetching import ignore, only

STEPS = 'step [ { model_name: "a" model_version: -1 }, { model_name: "b" model_version: 3 } ]'
ENSEMBLE = f'platform: "ensemble" ensemble_scheduling {{ {STEPS} }}'.encode()
NEEDS = (Need("a"), Need("b", 3))


async def test_an_ensemble_without_any_version_has_the_first(shelf: Shelf, cache: Path) -> None:
    shelf.put("m/config.pbtxt", ENSEMBLE)
    remote = await only(shelf, "m")
    assert (remote.version, remote.size_bytes, remote.fault, remote.needs) == (1, len(ENSEMBLE), "", NEEDS)
    await open_store(shelf.settings).fetch(remote, cache / "m" / "1", ignore)
    assert (cache / "m" / "1").is_dir(), "Triton asks for the folder"
    assert (cache / "m" / "config.pbtxt").read_bytes() == ENSEMBLE


async def test_a_version_with_a_file_is_one_as_ever(shelf: Shelf) -> None:
    shelf.put("m/config.pbtxt", ENSEMBLE)
    shelf.put("m/7/.keep", b"")
    remote = await only(shelf, "m")
    assert (remote.version, remote.needs) == (7, NEEDS)


async def test_empty_folders_are_versions_of_an_ensemble_and_of_no_other_model(disk: DiskShelf, cache: Path) -> None:
    for name in ("m", "plain"):
        (disk.folder / name / "2").mkdir(parents=True)
        (disk.folder / name / "5" / "deep").mkdir(parents=True)
        (disk.folder / name / "docs").mkdir()
    disk.put("plain/config.pbtxt", b'backend: "python"')
    disk.put("m/config.pbtxt", ENSEMBLE)
    disk.put("m/7/x", b"x")
    store = open_store(disk.settings)
    assert await store.versions("plain") == ()
    found = {each.version: each for each in await store.versions("m")}
    assert sorted(found) == [2, 5, 7]
    await store.fetch(found[2], cache / "m" / "2", ignore)
    assert (cache / "m" / "2").is_dir()


async def test_objects_that_stand_for_folders_are_versions_of_an_ensemble(s3: S3Shelf, cache: Path) -> None:
    """As the S3 console makes them; the list shows them without the slash."""
    s3.put("m/config.pbtxt", ENSEMBLE)
    s3.put("m/2/", b"")
    s3.put("m/docs/", b"")
    remote = await only(s3, "m")
    assert remote.version == 2
    await open_store(s3.settings).fetch(remote, cache / "m" / "2", ignore)
    assert (cache / "m" / "2").is_dir()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b"ensemble_scheduling {", r"cannot be read: 1:2\d : Expected"),
        (b"ensemble_scheduling { step [{ model_name: 'a\xff' }] }", "can't decode byte 0xff"),
        (b"ensemble_scheduling {" + b" x {" * 3000, "recursion"),
        (b"ensemble_scheduling" + b" " * MAX_BYTES, f"it has {MAX_BYTES + 19} bytes, and at most {MAX_BYTES} are read"),
        (b"ensemble_scheduling { step [{ model_name: '../a' }] }", "The name of a step '../a' holds a '/'"),
        (b"ensemble_scheduling { step [{}] }", "The name of a step is empty"),
        (
            b"ensemble_scheduling {%s}" % b"".join(b"step [{ model_name: 'm%d' }]" % n for n in range(MAX_NEEDED + 1)),
            "more than 256 models",
        ),
    ],
)
async def test_a_config_that_cannot_be_read_is_the_fault_of_a_model_that_may_be_one(
    disk: DiskShelf, config: bytes, words: str
) -> None:
    disk.put("m/config.pbtxt", config)
    remote = await only(disk, "m")
    assert (remote.version, remote.needs) == (1, ())
    with pytest.raises(StoreCorrupt, match=words):
        await open_store(disk.settings).fetch(remote, disk.folder / "never", ignore)
    disk.put("m/2/model.py", b"x")
    remote = await only(disk, "m")
    assert (remote.version, remote.fault) == (2, ""), "what the server says of it is for the server to say"


async def test_a_config_that_is_the_same_is_read_once(disk: DiskShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.put("m/config.pbtxt", ENSEMBLE)
    store = open_store(disk.settings)
    assert isinstance(store, ObjectStore)
    for _ in range(3):
        assert (await store.versions("m"))[0].needs == NEEDS
    read = store._source.read
    reads: list[str] = []
    monkeypatch.setattr(store._source, "read", lambda model, *more: (reads.append(model), read(model, *more))[1])
    await store.versions("m")
    assert reads == []
    disk.put("m/config.pbtxt", ENSEMBLE.replace(b'"a"', b'"c"'))
    assert (await store.versions("m"))[0].needs == (Need("c"), Need("b", 3))
    assert reads == ["m"]


async def test_most_models_cost_no_read_at_all() -> None:
    async with scripted_s3() as store:
        store.extra.append(("p/m/1/a", 5))
        await open_store(store.settings).versions("m")
        assert store.reads == []


def test_what_is_no_version_folder_makes_no_version_of_an_ensemble() -> None:
    files = [Object(path, 0, "e") for path in ("docs", "-1", "9223372036854775808", "config.pbtxt")]
    found = contents("m", Listing(files, empty=["configs", "v2"]), NEEDS)
    assert list(found.packages) == ["1"]
    assert contents("m", Listing(files), None).packages == {}
