"""A disk without room: a clear error, and nothing left behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.model_cache.stores import open_store
from mesh.model_cache.stores.store import StoreFull
from tests.mesh.model_cache.stores.shelves import DiskShelf
from tests.mesh.model_cache.stores.test_fetching import ignore, only

_ROOT = Path(__file__).parents[4]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounting.returncode:
        pytest.skip(f"no small disk to be had here: {mounting.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_what_cannot_fit_is_not_begun(disk: DiskShelf, small_disk: Path) -> None:
    disk.put("m/1/a", bytes(2_000_000))
    with pytest.raises(StoreFull, match=r"needs 2000000 more bytes, and its disk has \d+ free"):
        await open_store(disk.settings).fetch(await only(disk, "m"), small_disk / "m" / "1", ignore)
    assert list(small_disk.iterdir()) == []


async def test_a_disk_that_fills_up_meanwhile(disk: DiskShelf, small_disk: Path) -> None:
    disk.put("m/1/a", bytes(800_000))
    ballast = small_disk / "ballast"

    def fill(done: int) -> None:
        if done and not ballast.exists():
            ballast.write_bytes(bytes(400_000))

    with pytest.raises(StoreFull, match=r"is full"):
        await open_store(disk.settings).fetch(await only(disk, "m"), small_disk / "m" / "1", fill)
    assert list(small_disk.iterdir()) == [ballast]


_LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from mesh.model_cache.stores.store import StoreFull
from mesh.model_cache.stores import StoreSettings
from tests.mesh.model_cache.stores.killed_fetch import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    asyncio.run(fetch(StoreSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]), lambda done: None))
except StoreFull as error:
    print(error)
"""


def test_a_file_larger_than_the_process_may_write(disk: DiskShelf, cache: Path) -> None:
    disk.put("m/1/a", bytes(300_000))
    command = [sys.executable, "-c", _LIMITED, disk.settings.model_dump_json(), str(cache / "m" / "1")]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "is full" in done.stdout
    assert not (cache / "m").exists()
