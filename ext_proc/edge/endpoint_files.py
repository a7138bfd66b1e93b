"""Hands the list of nodes to Envoy by files that it watches, so that a reload reaches it without a restart."""

import os
from collections.abc import Sequence
from pathlib import Path

from ext_proc.envoy_config import render_endpoints
from mesh.node import Node


def write_endpoints(folder: Path, nodes: Sequence[Node]) -> None:
    """Writes the files of `envoy.endpoints_dir`, each replaced whole. Raises OSError if that cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render_endpoints(nodes).items():
        fresh = folder / f".{name}.{os.getpid()}"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(folder / name)
