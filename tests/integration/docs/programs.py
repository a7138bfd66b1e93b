"""The programs that pages call and that are not on the path, in one folder for it."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from integration.peers.prometheus import binary
from integration.peers.triton import missing, write_program
from integration.stack.envoys import envoy_binary

_FOUND: dict[str, Callable[[], Path]] = {
    "envoy": envoy_binary,
    "prometheus": partial(binary, "prometheus"),
    "promtool": partial(binary, "promtool"),
}


def lay(folder: Path, commands: str) -> None:
    """Links those that the commands name into the folder. Raises FileNotFoundError for one that there is not."""
    for name, find in _FOUND.items():
        if re.search(rf"\b{name}\b", commands):
            (folder / name).symlink_to(find())
    if "tritonserver" in commands:
        if why := missing():
            raise FileNotFoundError(why)
        write_program(folder)
