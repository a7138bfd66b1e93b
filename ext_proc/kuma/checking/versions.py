"""Folders that hold files for several Kuma versions."""

import re
from collections.abc import Iterable
from pathlib import Path

_VERSION = re.compile(r"(?<![\d.])(\d+\.\d+)(?!\d)")


def of_version(root: Path, files: Iterable[Path], version: str) -> list[Path]:
    """Those of the files below `root` that are for one version ("2.14"): no folder on the way is called after another.

    "2.14" is in "2.14", "v2.14.3" and "master-2.14-dev", but not in "12.14" or "2.140".
    """
    return [each for each in files if all(_fits(name, version) for name in each.relative_to(root).parts[:-1])]


def _fits(folder: str, version: str) -> bool:
    named = _VERSION.findall(folder)
    return not named or version in named
