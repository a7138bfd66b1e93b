"""What names a model to the cache. The one place of this package where names are checked."""

import re
from typing import NamedTuple

from mesh.model_cache.errors import BadName

MAX_NAME = 255  # bytes of UTF-8: what a file system takes as the name of a folder
MAX_VERSION = (1 << 63) - 1
LATEST = "latest"
"""The label that every model has: its newest version in the store."""

_OUTLAW = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]{1,19}")


class Key(NamedTuple):
    """One version of one model: the unit that is fetched, loaded and unloaded."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"


def check_name(name: str, part: str = "model name") -> str:
    """The name, if it is safe as the name of one folder.

    Refused with BadName: empty, over 255 bytes, slashes of both kinds, `.` and `..`, control characters and text that
    is not UTF-8.
    """
    if not name:
        raise BadName(f"The {part} is empty.")
    outlaw = _OUTLAW.search(name)
    if outlaw or name in (".", ".."):
        what = f"holds the character {outlaw[0]!a}" if outlaw else "is a step in a path, not a name"
        raise BadName(f"The {part} {name[:60]!a} {what}.")
    size = len(name.encode())
    if size > MAX_NAME:
        raise BadName(f"The {part} {name[:60]!a}... is {size} bytes long, over the limit of {MAX_NAME}.")
    return name


def check_version(version: int | str) -> int:
    """The version as a number, if it is an int64 that is not negative. Raises BadName."""
    if isinstance(version, str):
        if not _DIGITS.fullmatch(version):
            raise BadName(f"The model version {version[:60]!a} is not a decimal number of 64 bits.")
        version = int(version)
    if not 0 <= version <= MAX_VERSION:
        raise BadName(f"The model version {version} is not a decimal number of 64 bits.")
    return version
