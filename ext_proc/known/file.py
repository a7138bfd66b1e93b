"""The map's file is there before Envoy is."""

from pathlib import Path

from ext_proc.known.map_file import MapWriter
from ext_proc.whole_file import replace_file


def make_if_absent(file: Path) -> bool:
    """Writes a map that knows nothing where there is none; whether it did. Raises OSError.

    Envoy rejects a listener whose file is not there, and does not come back to it by itself.
    """
    if file.exists():
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, MapWriter(1).write((), "empty"))
    return True
