"""What fetches that have died left on the disk: removed at a start, but for what another fetch can go on from."""

import os
import shutil
from pathlib import Path

from mesh.model_cache.stores.lock import locked
from mesh.model_cache.stores.manifest import trusted


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
