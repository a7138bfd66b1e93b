"""The whole system on one machine: nodes, and the edge in front of them. Demo, tests, benchmarks and soak start it."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from integration.stack.sidecar import Section, Sidecar
from mesh.node import Node


class StackNode(Protocol):
    """A node that a stack starts and stops: `EmbeddedNode` or `CachedNode`."""

    @property
    def node(self) -> Node:
        """The node as the edge's configuration names it."""
        ...

    async def start(self) -> None:
        """Returns once the node takes calls. Raises ProcessError."""
        ...

    async def stop(self) -> None:
        """Ends the node's processes in order."""
        ...

    def kill(self) -> None:
        """Ends them at once. Harmless where they have ended."""
        ...


AnyNode = TypeVar("AnyNode", bound=StackNode)
AnyNode_co = TypeVar("AnyNode_co", bound=StackNode, covariant=True)


class Spec(Protocol[AnyNode_co]):
    """What a node is started with: `NodeSpec` makes embedded nodes, `CachedSpec` cached ones."""

    @property
    def id(self) -> str:
        """The node's id, unique in its stack."""
        ...

    def build(self, models: Path, folder: Path) -> AnyNode_co:
        """The node, not started. It serves what lies in `models` and writes its files into `folder`, which exists."""
        ...


class Stack(Generic[AnyNode]):
    """Nodes of one kind behind an edge, in a temporary folder.

    `models` is the folder of models that all nodes serve. `envoy` (a version) and `sections` are the edge's.
    `async with Stack(models, specs) as stack`: on entry everything is up and ready; on exit no process and no file is
    left, whatever failed.
    """

    def __init__(
        self,
        models: Path,
        nodes: Sequence[Spec[AnyNode]],
        *,
        envoy: str = "1.40",
        sections: Mapping[str, Section] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tbms-")
        self.nodes = {spec.id: spec.build(models, self._subfolder(spec.id)) for spec in nodes}
        population = [node.node for node in self.nodes.values()]
        self.edge = Sidecar(self._subfolder("edge"), population, envoy=envoy, sections=sections)

    async def __aenter__(self) -> "Stack[AnyNode]":
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

    def by_address(self, address: str) -> AnyNode:
        """The node that takes calls at `ip:port`, whichever of its ports that is. Raises KeyError."""
        for node in self.nodes.values():
            if address in (node.node.grpc, node.node.rest):
                return node
        raise KeyError(address)

    def _subfolder(self, name: str) -> Path:
        folder = Path(self._folder.name) / name
        folder.mkdir()
        return folder
