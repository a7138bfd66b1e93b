"""The registry: follows every source of nodes, and tells whoever listens what the nodes are."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mesh.back_off import RetryDelays
from mesh.discovery.merge import NodeSet
from mesh.discovery.node_source import NodeSource
from mesh.discovery.sightings import Sightings, SourceState
from mesh.errors import MeshError
from mesh.node import Node

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a source that failed is asked again: doubled with every failure in a row."""
_CAUSE = 300  # characters of why a source failed


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


@dataclass(slots=True, eq=False)
class _Followed:
    name: str
    source: NodeSource
    task: asyncio.Task[None] | None = None


class Registry:
    """Merges the sources (name -> source; where they clash, the earlier one wins) into one set of nodes.

    A source that fails keeps its last nodes in force and is asked again; the others go on. The
    listeners are told of every change in the order in which they stand: one that asks another of a node comes after it,
    so the router is the first. Those that are workers run as long as the registry does. `steady` and the rules of
    changes: see `Sightings`. `chance`: see `RetryDelays`.
    """

    def __init__(
        self,
        sources: Mapping[str, NodeSource],
        *listeners: NodeSetListener,
        steady: Iterable[str] = (),
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._followed = [_Followed(name, source) for name, source in sources.items()]
        self._group: asyncio.TaskGroup | None = None
        self._listeners = listeners
        self._chance = chance
        self._sightings = Sightings(sources, steady)
        self._changed = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once every source has been heard: it has handed over its nodes, or failed to."""
        self.conflicts: tuple[str, ...] = ()
        """One sentence for each node that was left out, as of now."""

    @property
    def complete(self) -> bool:
        """Whether every source has handed over its nodes at least once."""
        return self._sightings.complete

    def states(self) -> tuple[SourceState, ...]:
        """Every source as of now; while the registry runs."""
        return self._sightings.states(_now())

    def replace(self, sources: Mapping[str, NodeSource]) -> None:
        """These are the sources from now on. One that is followed already goes on undisturbed, under whatever name; of
        the nodes of those that go: see `Sightings.replace`."""
        known = {id(followed.source): followed for followed in self._followed}
        followed_now, former = [], {}
        for name, source in sources.items():
            stays = known.pop(id(source), None)
            former[name] = None if stays is None else stays.name
            followed_now.append(stays or _Followed(name, source))
        self._sightings.replace(former)
        self._followed = followed_now
        for followed, name in zip(self._followed, sources, strict=True):
            followed.name = name
        for gone in known.values():
            if gone.task is not None:
                gone.task.cancel()
        self._start()
        self._changed.set()

    async def run(self) -> None:
        """Follow the sources until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._start()
                for listener in self._listeners:
                    if isinstance(listener, NodeSetWorker):
                        self._group.create_task(listener.run(), name=type(listener).__name__)
                self._group.create_task(self._tell(), name="tell of nodes")
        finally:
            self._group = None

    def _start(self) -> None:
        """Follows those that are not followed yet, while it runs."""
        for followed in self._followed:
            if self._group is not None and followed.task is None:
                followed.task = self._group.create_task(self._follow(followed), name=f"source {followed.name}")

    async def _follow(self, followed: _Followed) -> None:
        delays = RetryDelays(FIRST_PAUSE, LONGEST_PAUSE, self._chance)
        while True:
            try:
                async with aclosing(followed.source.snapshots()) as snapshots:
                    async for found in snapshots:
                        self._sightings.took(followed.name, found, _now())
                        delays.reset()
                        self._changed.set()
                failure = "It ended."
            except (OSError, TimeoutError, MeshError) as error:
                failure = str(error)[:_CAUSE] or type(error).__name__
            self._sightings.failed(followed.name, failure, _now())
            self._changed.set()
            pause = next(delays)
            logger.warning(
                "a source of nodes failed",
                extra={"source": followed.name, "cause": failure, "retry_seconds": pause},
            )
            await asyncio.sleep(pause)

    async def _tell(self) -> None:
        """Applies what the sources said, when it is time to."""
        while True:
            self._changed.clear()
            now = _now()
            found = self._sightings.apply(now)
            if found is not None:
                self._take(found)
            due = self._sightings.due(now)
            if self._sightings.heard and not self._sightings.pending:
                self.ready.set()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._changed.wait()

    def _take(self, found: NodeSet) -> None:
        for conflict in found.conflicts:
            if conflict not in self.conflicts:
                logger.warning("a node is left out", extra={"cause": conflict})
        self.conflicts = found.conflicts
        for listener in self._listeners:
            listener.update(found.nodes)


def _now() -> float:
    return asyncio.get_running_loop().time()
