"""The whole system on one machine: nodes, server and Envoy; shared by the demo, the tests and the benchmarks."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.sidecar import Section, Sidecar


class Stack:
    """Embedded nodes behind an edge, in a folder of its own that goes with it.

    `async with Stack(repository, nodes) as stack`: on entry everything is up and ready, on exit nothing is left.
    """

    def __init__(
        self,
        repository: Path,
        nodes: Sequence[NodeSpec],
        *,
        envoy: str = "1.40",
        sections: Mapping[str, Section] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tbms-")
        folder = Path(self._folder.name)
        self.nodes = {spec.id: EmbeddedNode(spec, repository, folder) for spec in nodes}
        self.edge = Sidecar(folder, [node.node for node in self.nodes.values()], envoy=envoy, sections=sections)

    async def __aenter__(self) -> "Stack":
        try:
            await asyncio.gather(*(node.start() for node in self.nodes.values()))
            await self.edge.__aenter__()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        try:
            await self.edge.stop()
            await asyncio.gather(*(node.stop() for node in self.nodes.values()))
        finally:
            for node in self.nodes.values():
                node.kill()
            self.edge.kill()
            self._folder.cleanup()

    def by_address(self, address: str) -> EmbeddedNode:
        """The node that serves at `ip:port`, whichever of its two ports that is. Raises KeyError."""
        for node in self.nodes.values():
            if address in (node.node.grpc, node.node.rest):
                return node
        raise KeyError(address)
