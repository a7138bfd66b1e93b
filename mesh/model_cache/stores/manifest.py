"""The manifest in a fetched folder: which version it is, and which state of the store its files are."""

import json
from pathlib import Path

from mesh.model_cache.stores.objects import MANIFEST, Object, Package

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def manifest(package: Package) -> str:
    """The manifest's text (JSON)."""
    files = [[each.path, each.size, each.etag] for each in package.objects]
    remote = [package.model, package.version, package.size_bytes, package.digest]
    return json.dumps({"remote": remote, "boot": _boot(), "files": files})


def trusted(folder: Path) -> tuple[Object, ...]:
    """The files that an unfinished fetch was about; none where what lies on the disk cannot be believed.

    A kill leaves every byte that was written. A crash of the machine may leave files of the right size full of zeros,
    because they are not synced before they are complete: so a note from another boot is not believed.
    """
    try:
        note = json.loads((folder / MANIFEST).read_bytes())
        if note["boot"] != _boot():
            return ()
        return tuple(Object(path, size, etag) for path, size, etag in note["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
