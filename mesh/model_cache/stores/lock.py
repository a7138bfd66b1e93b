"""The lock on the folder of an unfinished fetch, across processes: who holds it writes there, or clears it away."""

import fcntl
import os
from pathlib import Path


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
