"""The registry: follows every source of nodes, and tells whoever listens what the nodes are."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Protocol, runtime_checkable

from mesh.back_off import RetryDelays
from mesh.discovery.merge import merge
from mesh.discovery.node_source import NodeSource
from mesh.errors import MeshError
from mesh.node import Node

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a source that failed is asked again: doubled with every failure in a row."""


class NodeSetListener(Protocol):
    """What is told of every change of the nodes."""

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on, all of them, with distinct ids and endpoints."""
        ...


@runtime_checkable
class NodeSetWorker(NodeSetListener, Protocol):
    """A listener that works for the nodes as long as they are followed: it probes, watches or warms them."""

    async def run(self) -> None:
        """Follow the set of nodes until cancelled."""
        ...


class Registry:
    """Merges the sources (name -> source; where they clash, the earlier one wins) into one set of nodes.

    A source that fails keeps its last nodes in force and is asked again; the others go on. The
    listeners are told of every change in the order in which they stand: one that asks another of a node comes after it,
    so the router is the first. Those that are workers run as long as the registry does.
    """

    def __init__(self, sources: Mapping[str, NodeSource], *listeners: NodeSetListener) -> None:
        self._sources = dict(sources)
        self._listeners = listeners
        self._snapshots: dict[str, tuple[Node, ...]] = {}
        self.ready = asyncio.Event()
        """Set once every source has been heard: it has handed over its nodes, or failed to."""
        self.conflicts: tuple[str, ...] = ()
        """One sentence for each node that was left out, as of now."""
        self.failures: dict[str, str] = {}
        """Source -> why it cannot say at the moment what its nodes are."""

    async def run(self) -> None:
        """Follow the sources until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, source in self._sources.items():
                tasks.create_task(self._follow(name, source), name=f"source {name}")
            for listener in self._listeners:
                if isinstance(listener, NodeSetWorker):
                    tasks.create_task(listener.run(), name=type(listener).__name__)
            self._heard()

    async def _follow(self, name: str, source: NodeSource) -> None:
        delays = RetryDelays(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                async with aclosing(source.snapshots()) as snapshots:
                    async for nodes in snapshots:
                        delays.reset()
                        self._take(name, nodes)
                failure = "It ended."
            except (OSError, TimeoutError, MeshError) as error:
                failure = str(error) or type(error).__name__
            self.failures[name] = failure
            self._heard()
            pause = next(delays)
            logger.warning("a source of nodes failed", extra={"source": name, "cause": failure, "retry_seconds": pause})
            await asyncio.sleep(pause)

    def _take(self, name: str, nodes: tuple[Node, ...]) -> None:
        self.failures.pop(name, None)
        self._snapshots[name] = nodes
        ordered = [(each, self._snapshots[each]) for each in self._sources if each in self._snapshots]
        merged = merge(ordered)
        for conflict in merged.conflicts:
            if conflict not in self.conflicts:
                logger.warning("a node is left out", extra={"cause": conflict})
        self.conflicts = merged.conflicts
        for listener in self._listeners:
            listener.update(merged.nodes)
        self._heard()

    def _heard(self) -> None:
        if self._sources.keys() <= self._snapshots.keys() | self.failures.keys():
            self.ready.set()
