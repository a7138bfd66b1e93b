"""The programs that pages call and that are not on the path, in one folder for it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import http_sfv

from integration.peers import tf_client
from integration.peers.prometheus import binary
from integration.peers.triton import installed, missing
from integration.stack.envoys import envoy_binary
from tests.pages import ROOT

_FOUND: dict[str, Callable[[], Path]] = {
    "envoy": envoy_binary,
    "prometheus": partial(binary, "prometheus"),
    "promtool": partial(binary, "promtool"),
}


@contextmanager
def laid(folder: Path, commands: str) -> Iterator[None]:
    """Those that the commands name are in the folder. Raises FileNotFoundError for one that there is not."""
    for name, find in _FOUND.items():
        if re.search(rf"\b{name}\b", commands):
            (folder / name).symlink_to(find())
    if "python-tf " in commands:
        _lay_tensorflow(folder)
    wants_triton = "tritonserver" in commands
    if wants_triton and (why := missing()):
        raise FileNotFoundError(why)
    with installed(folder) if wants_triton else nullcontext():
        yield


def _lay_tensorflow(folder: Path) -> None:
    """A Python with TensorFlow, which finds what a reader has installed beside it."""
    if why := tf_client.missing():
        raise FileNotFoundError(why)
    beside = folder / "beside-tensorflow"
    beside.mkdir()
    (beside / "http_sfv").symlink_to(Path(http_sfv.__file__).parent)
    program = folder / "python-tf"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}:{beside}" exec {tf_client.PYTHON} "$@"\n')
    program.chmod(0o755)
