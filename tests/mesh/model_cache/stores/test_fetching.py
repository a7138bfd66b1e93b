"""What holds for every kind of store, on a real one of each."""

import asyncio
import os
from pathlib import Path

import pytest

from mesh.model_cache.stores import StoreSettings, open_store
from mesh.model_cache.stores.objects import MANIFEST
from mesh.model_cache.stores.store import Remote, StoreCorrupt, StoreError, StoreMissing, StoreTransient, partial
from tests.mesh.model_cache.stores.fetched import fetched
from tests.mesh.model_cache.stores.shelves import Shelf

BIG = os.urandom(300_001)
SMALL = os.urandom(70_000)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def ignore(done: int) -> None:
    """Progress that nobody looks at."""


async def only(shelf: Shelf, model: str) -> Remote:
    (remote,) = await open_store(shelf.settings).versions(model)
    return remote


def stock(shelf: Shelf) -> dict[str, bytes]:
    """A model with nested folders, odd names, an empty file and a file of its own beside the version."""
    files = {
        "7/saved_model.pb": BIG,
        "7/variables/variables.data-00000-of-00001": SMALL,
        "7/assets/a b%20ä+#.txt": b"odd",
        "7/empty": b"",
        "config.pbtxt": b'name: "m"',
    }
    for path, data in files.items():
        shelf.put(f"m/{path}", data)
    shelf.put("mm/1/other", b"a neighbour with a longer name")
    return files


async def test_a_version_arrives_as_it_is_in_the_store(shelf: Shelf, cache: Path) -> None:
    files = stock(shelf)
    remote = await only(shelf, "m")
    assert (remote.model, remote.version, remote.size_bytes) == ("m", 7, sum(map(len, files.values())))
    told: list[int] = []
    target = cache / "m" / "7"
    await open_store(shelf.settings).fetch(remote, target, told.append)
    assert contents(cache / "m") == files
    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] == remote.size_bytes
    assert fetched(target) == remote
    assert not partial(target).exists()


async def test_a_version_whose_folder_has_zeros_is_fetched_from_there_as_its_number(shelf: Shelf, cache: Path) -> None:
    """TF Serving's own layout, as in its tutorials: `00000123`."""
    shelf.put("m/00000123/variables/a", BIG)
    shelf.put("m/00000123/b", SMALL)
    remote = await only(shelf, "m")
    assert (remote.version, remote.folder, remote.fault) == (123, "00000123", "")
    await open_store(shelf.settings).fetch(remote, cache / "m" / "123", ignore)
    assert contents(cache / "m") == {"123/variables/a": BIG, "123/b": SMALL}


async def test_two_folders_with_one_number_are_told_apart(shelf: Shelf, cache: Path) -> None:
    shelf.put("m/1/a", b"plain")
    shelf.put("m/001/a", b"zeros")
    found = {remote.folder: remote for remote in await open_store(shelf.settings).versions("m")}
    assert {remote.version for remote in found.values()} == {1}
    await open_store(shelf.settings).fetch(found["001"], cache / "m" / "1", ignore)
    assert contents(cache / "m") == {"1/a": b"zeros"}
    await open_store(shelf.settings).fetch(found[""], cache / "again" / "1", ignore)
    assert contents(cache / "again") == {"1/a": b"plain"}


async def test_the_model_server_may_read_what_arrives(shelf: Shelf, cache: Path) -> None:
    """It runs as another user: files and folders have the usual rights, and are files, not links."""
    stock(shelf)
    await open_store(shelf.settings).fetch(await only(shelf, "m"), cache / "m" / "7", ignore)
    mask = os.umask(0)
    os.umask(mask)
    for path in (path for path in (cache / "m").rglob("*") if path.name != MANIFEST):
        assert path.lstat().st_mode & 0o777 == (0o777 & ~mask if path.is_dir() else 0o644 & ~mask)
        assert not path.is_symlink()


async def test_versions_are_numbers_and_other_things_are_left_out(shelf: Shelf) -> None:
    for path in ("m/1/a", "m/20/a", "m/0/a", "m/007/a", "m/9223372036854775808/a", "m/.hidden/a", "m/latest/a"):
        shelf.put(path, b"x")
    found = await open_store(shelf.settings).versions("m")
    assert sorted(remote.version for remote in found) == [0, 1, 7, 20]
    assert {remote.size_bytes for remote in found} == {2}  # its own file, and the model's `latest/a`


async def test_no_such_model_is_an_empty_answer(shelf: Shelf) -> None:
    shelf.put("other/1/a", b"x")
    assert await open_store(shelf.settings).versions("m") == ()


async def test_the_digest_is_stable_and_changes_with_any_file(shelf: Shelf) -> None:
    stock(shelf)
    first = await only(shelf, "m")
    assert await only(shelf, "m") == first
    shelf.put("m/config.pbtxt", b'name: "n"')
    second = await only(shelf, "m")
    assert second.size_bytes == first.size_bytes
    assert second.digest != first.digest


async def test_a_version_that_is_gone_is_missing(shelf: Shelf, cache: Path) -> None:
    shelf.put("m/1/a", b"x")
    remote = await only(shelf, "m")
    shelf.remove("m/1/a")
    with pytest.raises(StoreMissing, match=r"no version 1 of 'm' any more"):
        await open_store(shelf.settings).fetch(remote, cache / "m" / "1", ignore)
    assert not cache.exists()


async def test_a_version_that_changed_since_it_was_listed_is_not_fetched(shelf: Shelf, cache: Path) -> None:
    shelf.put("m/1/a", b"x")
    remote = await only(shelf, "m")
    shelf.put("m/1/a", b"yy")
    with pytest.raises(StoreTransient, match=r"changed since it was listed"):
        await open_store(shelf.settings).fetch(remote, cache / "m" / "1", ignore)
    assert not cache.exists()


async def test_a_file_that_changes_during_the_fetch_is_fetched_again_and_only_that(shelf: Shelf, cache: Path) -> None:
    shelf.put("m/1/a", SMALL)
    shelf.put("m/1/b", BIG)
    target = cache / "m" / "1"

    def change(done: int) -> None:
        if len(SMALL) < done < len(SMALL) + 150_000:
            shelf.put("m/1/b", BIG[::-1] + b"!")

    with pytest.raises(StoreTransient, match=r"'m/1/b' changed while it was fetched"):
        await open_store(shelf.settings).fetch(await only(shelf, "m"), target, change)
    assert not target.exists()
    told: list[int] = []
    await open_store(shelf.settings).fetch(await only(shelf, "m"), target, told.append)
    assert contents(target) == {"a": SMALL, "b": BIG[::-1] + b"!"}
    assert told[0] == len(SMALL)


async def test_a_cancelled_fetch_goes_on_from_where_it_was(shelf: Shelf, cache: Path) -> None:
    files = stock(shelf)
    remote = await only(shelf, "m")
    target = cache / "m" / "7"
    store = open_store(shelf.settings)
    reached = 0

    def stop(done: int) -> None:
        nonlocal reached
        reached = done
        if done > 130_000:
            running.cancel()

    running = asyncio.ensure_future(store.fetch(remote, target, stop))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not target.exists()
    assert partial(target).exists()
    told: list[int] = []
    await store.fetch(remote, target, told.append)
    assert told[0] >= reached > 130_000
    assert contents(cache / "m") == files


async def test_two_fetches_of_one_version_do_not_mix(shelf: Shelf, cache: Path) -> None:
    """As two processes would, while one replaces the other."""
    files = stock(shelf)
    remote = await only(shelf, "m")
    target = cache / "m" / "7"
    results = await asyncio.gather(
        *(open_store(shelf.settings).fetch(remote, target, ignore) for _ in range(2)), return_exceptions=True
    )
    (failed,) = [result for result in results if result is not None]
    assert isinstance(failed, StoreError)
    assert contents(cache / "m") == files


async def test_a_second_version_keeps_the_first_and_renews_the_files_of_the_model(shelf: Shelf, cache: Path) -> None:
    shelf.put("m/1/a", b"one")
    shelf.put("m/config.pbtxt", b"old")
    store = open_store(shelf.settings)
    await store.fetch(await only(shelf, "m"), cache / "m" / "1", ignore)
    shelf.put("m/2/a", b"two")
    shelf.put("m/config.pbtxt", b"new!")
    newest = max(await store.versions("m"), key=lambda remote: remote.version)
    await store.fetch(newest, cache / "m" / "2", ignore)
    assert contents(cache / "m") == {"1/a": b"one", "2/a": b"two", "config.pbtxt": b"new!"}


async def test_too_many_files_and_too_many_bytes_are_refused(shelf: Shelf, cache: Path) -> None:
    for index in range(3):
        shelf.put(f"m/1/{index}", b"x" * 100)
    few = StoreSettings(**{**shelf.settings.model_dump(), "max_files": 2})
    with pytest.raises(StoreCorrupt, match=r"more than 2 files"):
        await open_store(few).versions("m")
    small = StoreSettings(**{**shelf.settings.model_dump(), "max_bytes": 299})
    with pytest.raises(StoreCorrupt, match=r"300 bytes; max_bytes is 299"):
        await open_store(small).fetch(await only(shelf, "m"), cache / "m" / "1", ignore)
    assert not cache.exists()


async def test_a_name_that_is_no_model_name_is_not_asked_for(shelf: Shelf) -> None:
    shelf.put("m/1/a", b"x")
    for name in ("..", "m/..", "", "../shelf/m", "m/1"):
        with pytest.raises(StoreMissing):
            await open_store(shelf.settings).versions(name)


async def test_a_file_where_a_model_should_be_is_no_model(shelf: Shelf) -> None:
    shelf.put("m", b"x")
    assert await open_store(shelf.settings).versions("m") == ()
