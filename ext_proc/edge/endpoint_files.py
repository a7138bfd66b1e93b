"""Endpoint files: the list of nodes for an Envoy that watches them, so that a reload reaches it without a restart."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ext_proc.envoy_config import render_endpoints
from mesh.node import Node

logger = logging.getLogger(__name__)


def update_endpoint_files(folder: Path, nodes: Sequence[Node]) -> None:
    """Writes the files of `envoy.endpoints_dir`, each replaced whole. If that cannot be done, the log says so."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in render_endpoints(nodes).items():
            fresh = folder / f".{name}.{os.getpid()}"
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(folder / name)
    except OSError as error:
        logger.error("Envoy's endpoint files cannot be written", extra={"folder": str(folder), "cause": str(error)})
