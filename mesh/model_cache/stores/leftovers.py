"""What fetches that have died left on the disk: removed at a start, but for what another fetch can go on from."""

import fcntl
import os
import shutil
from pathlib import Path

from mesh.model_cache.stores.manifest import trusted


def locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None where another holds it, or has removed it meanwhile."""
    lock = -1
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), folder.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError, NotADirectoryError):
        pass
    if lock >= 0:
        os.close(lock)
    return None


def write_durably(path: Path, text: str) -> None:
    """All of the text is there, or nothing of it. Blocks on the disk."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in the folder stays so. Blocks on the disk."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(at)
    finally:
        os.close(at)


def clean_leftovers(models: Path, now: float, keep_seconds: float) -> int:
    """Remove what dead fetches left below `<models>/<model>/`; how many were removed. Call it once at the start.

    Kept is what a fetch can go on from: it belongs to this boot of the machine, its version is not there, and a byte
    of it was written less than `keep_seconds` before `now` (seconds since 1970). A fetch that lives, in any process,
    is left alone. Blocks on the disk.
    """
    removed = 0
    for folder in models.glob("*/.*.part"):
        lock = locked(folder)
        if lock is None:
            continue
        try:
            target = folder.with_name(folder.name.removeprefix(".").removesuffix(".part"))
            newest = max((path.lstat().st_mtime for path in folder.rglob("*")), default=0.0)
            if target.exists() or not trusted(folder) or newest < now - keep_seconds:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        finally:
            os.close(lock)
    return removed
