"""What is special about a folder as a store: links, special files, a place that others write to."""

import os
import socket
import threading
from pathlib import Path

import pytest

from mesh.model_cache.stores import StoreSettings, open_store
from mesh.model_cache.stores.disk import DiskSource
from mesh.model_cache.stores.objects import Listing
from mesh.model_cache.stores.store import StoreCorrupt, StoreError, StoreTransient
from tests.mesh.model_cache.stores.shelves import DiskShelf
from tests.mesh.model_cache.stores.test_fetching import ignore, only


async def refused(disk: DiskShelf, cache: Path) -> str:
    """Why the one version of `m` is refused."""
    remote = await only(disk, "m")
    with pytest.raises(StoreCorrupt) as error:
        await open_store(disk.settings).fetch(remote, cache / "m" / "1", ignore)
    assert not cache.exists()
    assert str(error.value) == remote.fault
    return remote.fault


async def test_a_model_that_is_a_link_is_refused(disk: DiskShelf, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "1").mkdir(parents=True)
    (disk.folder / "m").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreCorrupt, match=r"is a link or a special file"):
        await open_store(disk.settings).versions("m")


@pytest.mark.parametrize("place", ["m/1", "m/1/deep", "m/1/deep/link"])
async def test_a_link_in_a_version_costs_that_version(disk: DiskShelf, cache: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere" / "1" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "1" / "deep" / "secret").write_text("x")
    disk.put("m/1/deep/a", b"x")
    link = disk.folder / place
    if link.exists():
        link.rename(tmp_path / "away")
    link.symlink_to(tmp_path / "elsewhere")
    assert await refused(disk, cache) == f"In the store {place!r} is a link or a special file, and is not fetched."
    disk.put("m/2/a", b"x")
    faults = {each.version: each.fault for each in await open_store(disk.settings).versions("m")}
    assert faults[1]
    assert not faults[2]


@pytest.mark.parametrize("place", ["latest", "2", "3", ".current", "config.bak", "lost+found", "@eaDir"])
@pytest.mark.parametrize("target", ["1", "1/a", "nowhere", "itself"])
async def test_what_lies_beside_the_versions_and_is_none_is_left_out(disk: DiskShelf, place: str, target: str) -> None:
    """A link that a model server would take for a version is that version, and a fault."""
    disk.put("m/1/a", b"x")
    before = await only(disk, "m")
    (disk.folder / "m" / place).symlink_to(place if target == "itself" else target)
    found = {each.version: each for each in await open_store(disk.settings).versions("m")}
    assert found.pop(1) == before
    assert sorted(found) == ([int(place)] if place.isdigit() and target == "1" else [])
    assert all(each.fault for each in found.values())


@pytest.mark.parametrize("place", ["config.pbtxt", "tbms.json", "configs"])
async def test_a_link_in_place_of_what_servers_read_beside_the_versions_costs_them_all(
    disk: DiskShelf, cache: Path, place: str
) -> None:
    """Without its config.pbtxt a model would load, and be another one."""
    disk.put("m/1/a", b"x")
    (disk.folder / "m" / place).symlink_to("1/a")
    assert "is a link" in await refused(disk, cache)


async def test_pipes_empty_folders_and_plain_files_beside_the_versions_are_left_out(disk: DiskShelf) -> None:
    disk.put("m/1/a", b"x")
    before = await only(disk, "m")
    for name in ("pipe", "5"):
        os.mkfifo(disk.folder / "m" / name)
    for name in ("2", "lost+found", "3/deep"):
        (disk.folder / "m" / name).mkdir(parents=True)
    disk.put("m/4", b"a file that is named as a version")
    disk.put("m/.DS_Store", b"x")
    disk.put("m/.git/objects/1", b"x")
    disk.put("m/20251128093042123456789/a", b"beyond 63 bits")
    assert await only(disk, "m") == before


async def test_a_folder_that_may_not_be_read_costs_only_the_version_that_it_is(
    disk: DiskShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1", "2", "lost+found"):
        disk.put(f"m/{name}/a", b"x")
    enter = DiskSource._enter

    def guarded(source: DiskSource, folder: str, at: int) -> int:
        if folder in ("2", "lost+found"):  # root, as which tests may run, would be let in
            raise PermissionError
        return enter(source, folder, at)

    monkeypatch.setattr(DiskSource, "_enter", guarded)
    faults = {each.version: each.fault for each in await open_store(disk.settings).versions("m")}
    assert faults == {1: "", 2: "In the store 'm/2' may not be read."}


async def test_what_is_renamed_while_it_is_listed_is_no_error(disk: DiskShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of every upload that is a good one."""
    disk.put("m/1/a", b"x")
    disk.put("m/upload/a", b"x")
    enter = DiskSource._enter

    def late(source: DiskSource, folder: str, at: int) -> int:
        if folder == "upload":
            (disk.folder / "m" / "upload").rename(disk.folder / "m" / "2")
        return enter(source, folder, at)

    monkeypatch.setattr(DiskSource, "_enter", late)
    assert 1 in {each.version for each in await open_store(disk.settings).versions("m")}


@pytest.mark.parametrize("place", ["m", "m/1", "m/1/a"])
async def test_a_file_that_is_swapped_for_a_link_is_not_read(disk: DiskShelf, tmp_path: Path, place: str) -> None:
    disk.put("m/1/a", b"x")
    source = DiskSource(disk.settings)
    (listed,) = (await source.objects("m", 10)).files
    (disk.folder / place).rename(tmp_path / "away")
    (disk.folder / place).symlink_to(tmp_path / "away")
    with pytest.raises(StoreCorrupt, match=r"is a link or a special file"):
        await source.read("m", listed, 0, 1)


async def test_pipes_and_sockets_are_refused_and_do_not_block(disk: DiskShelf, cache: Path) -> None:
    disk.put("m/1/a", b"x")
    source = DiskSource(disk.settings)
    (listed,) = (await source.objects("m", 10)).files
    (disk.folder / "m/1/a").unlink()
    os.mkfifo(disk.folder / "m/1/a")
    assert "special file" in await refused(disk, cache)
    with pytest.raises(StoreCorrupt, match=r"special file"):
        await source.read("m", listed, 0, 1)
    (disk.folder / "m/1/a").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(disk.folder / "m/1/a"))
        assert "special file" in await refused(disk, cache)
        with pytest.raises(StoreError):
            await source.read("m", listed, 0, 1)


async def test_names_that_are_not_utf8_are_refused(disk: DiskShelf, cache: Path) -> None:
    disk.put("m/1/a", b"x")
    Path(os.fsdecode(os.fsencode(disk.folder) + b"/m/1/\xff")).write_text("x")
    assert "cannot be a file" in await refused(disk, cache)


async def test_a_model_rewritten_in_place_does_not_change_what_was_fetched(disk: DiskShelf, cache: Path) -> None:
    """The reason why nothing is linked."""
    disk.put("m/1/a", b"before")
    await open_store(disk.settings).fetch(await only(disk, "m"), cache / "m" / "1", ignore)
    (disk.folder / "m/1/a").write_bytes(b"after!")
    assert (cache / "m/1/a").read_bytes() == b"before"


async def test_a_rewrite_is_seen_though_size_and_modification_time_are_put_back(disk: DiskShelf) -> None:
    disk.put("m/1/a", b"before")
    file = disk.folder / "m/1/a"
    (first,) = (await DiskSource(disk.settings).objects("m", 10)).files
    times = file.stat()
    while file.stat().st_ctime_ns == times.st_ctime_ns:  # the clock of file systems has steps of milliseconds
        file.write_bytes(b"after!")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StoreTransient, match=r"changed while it was fetched"):
        await DiskSource(disk.settings).read("m", first, 0, 6)


async def test_a_disk_that_hangs_gives_an_error_in_time(disk: DiskShelf) -> None:
    source = DiskSource(StoreSettings(url=disk.settings.url, request_seconds=0.05))
    released = threading.Event()

    def hang(model: str, limit: int) -> Listing:
        released.wait(30)
        return Listing()

    source._list = hang  # type: ignore[method-assign]
    try:
        with pytest.raises(StoreTransient, match=r"no answer within 0.05 s"):
            await source.objects("m", 10)
    finally:
        released.set()
