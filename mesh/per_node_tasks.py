"""Tasks by node: one background task for each node, started and ended as the set of nodes changes."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar

from mesh.node import Node


class HasNode(Protocol):
    """What is kept for one node; `node` is set anew whenever the node has changed."""

    node: Node


Kept = TypeVar("Kept", bound=HasNode)


class PerNodeTasks(Generic[Kept]):
    """Keeps one `Kept` and one task for each node. `update` may be called at any time, `run` once.

    `begin` makes what is kept of a node that is new. `work` is what its task runs as long as `run` does; it returns
    only when cancelled. `identity` is what a node has to keep for its task to go on, such as its address: with another
    one it is a new node. None: there is nothing to do for that node. `name` stands in the names of the tasks.
    """

    def __init__(
        self,
        name: str,
        identity: Callable[[Node], Hashable | None],
        begin: Callable[[Node], Kept],
        work: Callable[[Kept], Coroutine[Any, Any, None]],
    ) -> None:
        self._name = name
        self._identity = identity
        self._begin = begin
        self._work = work
        self._kept: dict[str, Kept] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def get(self, node_id: str) -> Kept | None:
        """What is kept of that node; None for one that is not known, or for which there is nothing to do."""
        return self._kept.get(node_id)

    def update(self, nodes: Iterable[Node]) -> list[Kept]:
        """These are the nodes from now on. Returns what was kept of those that went, or have another identity now.

        Their tasks are cancelled, and none of the new ones has begun to run. `node` of one that moved is the new node.
        """
        fresh = {node.id: node for node in nodes}
        ended = []
        for node_id, kept in list(self._kept.items()):
            before = self._identity(kept.node)
            kept.node = fresh.get(node_id, kept.node)
            if node_id not in fresh or self._identity(kept.node) != before:
                ended.append(self._kept.pop(node_id))
                task = self._tasks.pop(node_id, None)
                if task is not None:
                    task.cancel()
        for node_id, node in fresh.items():
            if node_id not in self._kept and self._identity(node) is not None:
                self._kept[node_id] = self._begin(node)
                self._start(node_id)
        return ended

    async def run(self) -> None:
        """Run the tasks until cancelled. An error in one of them ends all, and is raised in an exception group."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for node_id in self._kept:
                    self._start(node_id)
                await asyncio.get_running_loop().create_future()  # nothing ends this but a cancellation
        finally:
            self._group = None
            self._tasks.clear()

    def _start(self, node_id: str) -> None:
        if self._group is not None:
            work = self._work(self._kept[node_id])
            self._tasks[node_id] = self._group.create_task(work, name=f"{self._name} {node_id}")
