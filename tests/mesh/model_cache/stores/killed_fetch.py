"""Run as a program: fetches one model, and is killed (SIGKILL) where the first argument says.

`bytes N`: when N bytes are in place. `steps`: at every operation on the file system in turn, each time in a process of
its own; after each the folder is checked, another process fetches to the end, and the result is checked.
The other arguments: the store's settings as JSON, and the folder to fetch to.
"""

import asyncio
import hashlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mesh.model_cache.stores import StoreSettings, open_store
from mesh.model_cache.stores.objects import MANIFEST
from tests.mesh.model_cache.stores.fetched import fetched

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


async def fetch(settings: StoreSettings, target: Path, progress: Callable[[int], None]) -> None:
    store = open_store(settings)
    (remote,) = await store.versions(target.parent.name)
    await store.fetch(remote, target, progress)


def kill_at_bytes(limit: int, settings: StoreSettings, target: Path) -> None:
    def progress(done: int) -> None:
        if done >= limit:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(fetch(settings, target, progress))


def kill_at_step(limit: int, settings: StoreSettings, target: Path) -> None:
    """Fetches in a fork; at the `limit`-th step below the target's parent it is killed."""
    steps = itertools.count(1)

    def watch(event: str, args: tuple[object, ...]) -> None:
        # Descriptors and names relative to one count as well: what is counted is only where the kill falls.
        if event in STEPS and not str(args[0]).endswith((".py", ".pyc", ".so")) and next(steps) == limit:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    asyncio.run(fetch(settings, target, lambda done: None))


def in_fork(work: Callable[[], None]) -> int:
    """The exit status of a child that does that work, negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fingerprint(folder: Path) -> str:
    names = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    lines = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in names]
    return "\n".join(lines)


def kill_at_every_step(settings: StoreSettings, target: Path) -> None:
    expected = fingerprint(Path(settings.path) / target.parent.name)
    for limit in itertools.count(1):
        status = in_fork(lambda: kill_at_step(limit, settings, target))  # noqa: B023 - it has ended before the next
        assert status in (0, -signal.SIGKILL), status
        complete = target.exists()
        if complete:
            assert fetched(target) is not None
            assert fingerprint(target) == fingerprint(Path(settings.path) / target.parent.name / target.name)
        else:
            assert in_fork(lambda: asyncio.run(fetch(settings, target, lambda done: None))) == 0
            assert not target.with_name(f".{target.name}.part").exists()
            assert fingerprint(target.parent) == expected
        shutil.rmtree(target.parent.parent)
        if status == 0:
            print(limit - 1)
            return


if __name__ == "__main__":
    how, *more, folder = sys.argv[1:]
    if how == "bytes":
        kill_at_bytes(int(more[0]), StoreSettings.model_validate_json(more[1]), Path(folder))
    else:
        kill_at_every_step(StoreSettings.model_validate_json(more[0]), Path(folder))
