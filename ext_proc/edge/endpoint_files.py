"""Endpoint files: the list of nodes for an Envoy that watches them, so that a change reaches it without a restart."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import yaml

from ext_proc.envoy_config import render_endpoints
from ext_proc.whole_file import replace_file
from mesh.address import Address
from mesh.node import Node

logger = logging.getLogger(__name__)


class EndpointFiles:
    """Keeps the files of `envoy.endpoints_dir` up to date with the set of nodes. `update` may be called at any time.

    `complete` says whether every source of nodes has spoken. Until then nothing is taken out of files that are there:
    an edge that starts while a source is away must not take from Envoy the nodes that it still sends calls to.
    """

    def __init__(self, folder: Path, complete: Callable[[], bool]) -> None:
        self._folder = folder
        self._complete = complete
        self._nodes: tuple[Node, ...] | None = None
        self._changed = asyncio.Event()
        self.written = asyncio.Event()
        """Set once they have been written, or could not be."""

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on."""
        self._nodes = tuple(nodes)
        self._changed.set()

    async def run(self) -> None:
        """Write what has changed until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._nodes is not None:
                await asyncio.to_thread(update_endpoint_files, self._folder, self._nodes, not self._complete())
                self.written.set()


def update_endpoint_files(folder: Path, nodes: Sequence[Node], keep: bool = False) -> None:
    """Writes the files, each replaced whole. If that cannot be done, the log says so. `keep`: what they list stays."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = [node for name in render_endpoints(()) for node in _listed(folder / name)] if keep else []
        for name, text in render_endpoints([*nodes, *kept]).items():
            replace_file(folder / name, text.encode())
    except OSError as error:
        logger.error("Envoy's endpoint files cannot be written", extra={"folder": str(folder), "cause": str(error)})


def _listed(file: Path) -> list[Node]:
    """What a file of ours lists, as nodes of that one protocol; nothing if it is not there, or not such a file."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        found = []
        for locality in document["resources"][0].get("endpoints", ()):
            for host in locality["lb_endpoints"]:
                socket = host["endpoint"]["address"]["socket_address"]
                endpoint = str(Address(str(socket["address"]), int(socket["port_value"])))
                grpc = "grpc" in file.stem
                found.append(Node(endpoint, endpoint if grpc else None, None if grpc else endpoint))
        return found
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
        return []
