"""What is special about a folder as a store: links, special files, a place that others write to."""

import os
import socket
import threading
from pathlib import Path

import pytest

from mesh.model_cache.stores import StoreSettings, open_store
from mesh.model_cache.stores.disk import DiskSource
from mesh.model_cache.stores.objects import Object
from mesh.model_cache.stores.store import StoreCorrupt, StoreError, StoreTransient
from tests.mesh.model_cache.stores.shelves import DiskShelf
from tests.mesh.model_cache.stores.test_fetching import ignore, only


@pytest.mark.parametrize("place", ["m", "m/1", "m/1/deep", "m/1/deep/link"])
async def test_links_are_refused_wherever_they_are(disk: DiskShelf, tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere" / "1" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "1" / "deep" / "secret").write_text("x")
    disk.put("m/1/deep/a", b"x")
    link = disk.folder / place
    if link.exists():
        link.rename(tmp_path / "away")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreCorrupt, match=r"is a link or a special file"):
        await open_store(disk.settings).versions("m")


@pytest.mark.parametrize("place", ["m", "m/1", "m/1/a"])
async def test_a_file_that_is_swapped_for_a_link_is_not_read(disk: DiskShelf, tmp_path: Path, place: str) -> None:
    disk.put("m/1/a", b"x")
    source = DiskSource(disk.settings)
    (listed,) = await source.objects("m", 10)
    (disk.folder / place).rename(tmp_path / "away")
    (disk.folder / place).symlink_to(tmp_path / "away")
    with pytest.raises(StoreCorrupt, match=r"is a link or a special file"):
        await source.read("m", listed, 0, 1)


async def test_pipes_and_sockets_are_refused_and_do_not_block(disk: DiskShelf, tmp_path: Path) -> None:
    disk.put("m/1/a", b"x")
    source = DiskSource(disk.settings)
    (listed,) = await source.objects("m", 10)
    (disk.folder / "m/1/a").unlink()
    os.mkfifo(disk.folder / "m/1/a")
    with pytest.raises(StoreCorrupt, match=r"special file"):
        await source.objects("m", 10)
    with pytest.raises(StoreCorrupt, match=r"special file"):
        await source.read("m", listed, 0, 1)
    (disk.folder / "m/1/a").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(disk.folder / "m/1/a"))
        with pytest.raises(StoreCorrupt, match=r"special file"):
            await source.objects("m", 10)
        with pytest.raises(StoreError):
            await source.read("m", listed, 0, 1)


async def test_names_that_are_not_utf8_are_refused(disk: DiskShelf) -> None:
    disk.put("m/1/a", b"x")
    Path(os.fsdecode(os.fsencode(disk.folder) + b"/m/1/\xff")).write_text("x")
    with pytest.raises(StoreCorrupt, match=r"cannot be a file"):
        await open_store(disk.settings).versions("m")


async def test_a_model_rewritten_in_place_does_not_change_what_was_fetched(disk: DiskShelf, cache: Path) -> None:
    """The reason why nothing is linked."""
    disk.put("m/1/a", b"before")
    await open_store(disk.settings).fetch(await only(disk, "m"), cache / "m" / "1", ignore)
    (disk.folder / "m/1/a").write_bytes(b"after!")
    assert (cache / "m/1/a").read_bytes() == b"before"


async def test_a_rewrite_is_seen_though_size_and_modification_time_are_put_back(disk: DiskShelf) -> None:
    disk.put("m/1/a", b"before")
    file = disk.folder / "m/1/a"
    (first,) = await DiskSource(disk.settings).objects("m", 10)
    times = file.stat()
    while file.stat().st_ctime_ns == times.st_ctime_ns:  # the clock of file systems has steps of milliseconds
        file.write_bytes(b"after!")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(StoreTransient, match=r"changed while it was fetched"):
        await DiskSource(disk.settings).read("m", first, 0, 6)


async def test_a_disk_that_hangs_gives_an_error_in_time(disk: DiskShelf) -> None:
    source = DiskSource(StoreSettings(url=disk.settings.url, request_seconds=0.05))
    released = threading.Event()

    def hang(model: str, limit: int) -> list[Object]:
        released.wait(30)
        return []

    source._list = hang  # type: ignore[method-assign]
    try:
        with pytest.raises(StoreTransient, match=r"no answer within 0.05 s"):
            await source.objects("m", 10)
    finally:
        released.set()
