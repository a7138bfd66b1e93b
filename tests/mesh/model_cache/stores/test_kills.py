"""A fetch that is killed leaves nothing that a model server could read, and another goes on from there."""

import signal
import subprocess
import sys
from pathlib import Path

from mesh.model_cache.stores import open_store
from mesh.model_cache.stores.store import partial
from tests.mesh.model_cache.stores.shelves import DiskShelf, Shelf
from tests.mesh.model_cache.stores.test_fetching import contents, only, stock

_ROOT = Path(__file__).parents[4]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mesh.model_cache.stores.killed_fetch", *arguments]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60)


async def test_a_killed_fetch_goes_on_from_where_it_was(shelf: Shelf, cache: Path) -> None:
    files = stock(shelf)
    target = cache / "m" / "7"
    killed = run("bytes", "200000", shelf.settings.model_dump_json(), str(target))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not target.exists()
    assert partial(target).exists()
    told: list[int] = []
    await open_store(shelf.settings).fetch(await only(shelf, "m"), target, told.append)
    assert told[0] >= 200_000
    assert contents(cache / "m") == files


def test_killed_at_every_step_on_the_disk(disk: DiskShelf, cache: Path) -> None:
    for path in ("7/model.onnx", "7/deep/er/data", "config.pbtxt"):
        disk.put(f"m/{path}", path.encode() * 100)
    done = run("steps", disk.settings.model_dump_json(), str(cache / "m" / "7"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30  # each of them was the place of a kill
