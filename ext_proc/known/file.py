"""The map's file on disk: always whole, and there before Envoy is."""

import os
from pathlib import Path

from ext_proc.known.map_file import MapWriter


def replace_file(file: Path, content: bytes) -> None:
    """Puts a new file in the place of the old one, by a rename, which Envoy watches for. Raises OSError."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def make_if_absent(file: Path) -> bool:
    """Writes a map that knows nothing where there is none; whether it did. Raises OSError.

    Envoy rejects a listener whose file is not there, and does not come back to it by itself.
    """
    if file.exists():
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, MapWriter(1).write((), "empty"))
    return True
