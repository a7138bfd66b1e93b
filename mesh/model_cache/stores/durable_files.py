"""Files of the local disk that kills, crashes and other processes cannot spoil: folder locks and durable writes."""

import fcntl
import os
from pathlib import Path


def lock_folder(folder: Path) -> int | None:
    """A descriptor that holds the folder's exclusive lock (flock) until it is closed, at the latest by the kernel.

    None where another process holds it, where there is no such folder, or where it was removed meanwhile.
    """
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
    """Write a file that is there with all of its text or not at all, even after a crash. Blocks on the disk."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that what was made, renamed or removed in the folder stays so. Blocks on the disk."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
