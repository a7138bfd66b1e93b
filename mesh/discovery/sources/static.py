"""The static source: nodes that the configuration names."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Literal

from mesh.discovery.merge import NodeSet
from mesh.discovery.settings import NodeList
from mesh.node import Node
from mesh.settings import Settings


class StaticSettings(Settings):
    """Nodes that are listed here, as in `nodes`."""

    kind: Literal["static"]
    nodes: NodeList


class StaticSource:
    """Hands over the nodes that it was given last. It reads no file: whoever owns the configuration calls `replace`."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self._nodes = nodes
        self._changed = asyncio.Event()

    def replace(self, nodes: tuple[Node, ...]) -> None:
        """The configuration was read anew."""
        self._nodes = nodes
        self._changed.set()

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`. Of several replacements in a row only the last is sure to be handed over."""
        while True:
            self._changed.clear()
            yield NodeSet(self._nodes, ())
            await self._changed.wait()
