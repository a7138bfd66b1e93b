"""What is on the disk even after the machine has crashed: a small file written as a whole, a folder's entries."""

import os
from pathlib import Path


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
