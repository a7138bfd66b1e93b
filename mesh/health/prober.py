"""The prober: asks every node again and again whether it lives, and tells when that changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from random import Random

from mesh.health.state import HealthState, ProbeSettings
from mesh.node import Node

logger = logging.getLogger(__name__)

Probe = Callable[[Node], Awaitable[str | None]]
"""Says why a node is not well, or None. It bounds its own time, and raises nothing."""

Verdict = Callable[[str, bool], None]
"""Takes (node id, alive) when that changes: `Router.set_alive`."""


class _Watch:
    """What is kept for one node."""

    def __init__(self, node: Node, settings: ProbeSettings) -> None:
        self.node = node
        self.state = HealthState(settings)
        self.cause: str | None = None
        self.doubted = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Prober:
    """Probes each node on its own. `update` may be called at any time, `run` once. `seed` moves the probes apart."""

    def __init__(self, settings: ProbeSettings, probe: Probe, verdict: Verdict, seed: int) -> None:
        self._settings = settings
        self._probe = probe
        self._verdict = verdict
        self._random = Random(seed)
        self._watches: dict[str, _Watch] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on. One whose endpoints have changed is a new one: alive until proven dead."""
        fresh = {node.id: node for node in nodes} if self._settings.enabled else {}
        for node_id, watch in list(self._watches.items()):
            if node_id not in fresh or fresh[node_id].endpoints != watch.node.endpoints:
                del self._watches[node_id]
                if watch.task is not None:
                    watch.task.cancel()
                if not watch.state.alive:
                    self._verdict(node_id, True)
        for node_id, node in fresh.items():
            if node_id in self._watches:
                self._watches[node_id].node = node
            else:
                self._watches[node_id] = _Watch(node, self._settings)
                self._start(self._watches[node_id])

    def report_failure(self, node_id: str) -> None:
        """A call to that node failed: probe it now. Reports in quick succession cause one probe."""
        watch = self._watches.get(node_id)
        if watch is not None:
            watch.doubted.set()

    def cause(self, node_id: str) -> str | None:
        """Why the last probe of that node failed, or None if it did not."""
        watch = self._watches.get(node_id)
        return None if watch is None else watch.cause

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for watch in self._watches.values():
                    self._start(watch)
                await asyncio.get_running_loop().create_future()  # nothing ends this but a cancellation
        finally:
            self._tasks = None

    def _start(self, watch: _Watch) -> None:
        if self._tasks is not None:
            watch.task = self._tasks.create_task(self._keep_probing(watch), name=f"probe {watch.node.id}")

    async def _keep_probing(self, watch: _Watch) -> None:
        await asyncio.sleep(self._random.random() * self._settings.retry_interval)
        while True:
            watch.doubted.clear()
            watch.cause = await self._probe(watch.node)
            change = watch.state.observe(watch.cause is None)
            if change is not None:
                logger.log(
                    logging.INFO if change else logging.WARNING,
                    "Node %s is %s. %s",
                    watch.node.id,
                    "alive again" if change else "dead",
                    watch.cause or "",
                )
                self._verdict(watch.node.id, change)
            pause = watch.state.pause(self._random.random())
            least = min(pause, self._settings.retry_interval)
            await asyncio.sleep(least)  # reports that come in here wait, so that a flood of them floods nobody
            with suppress(TimeoutError):
                async with asyncio.timeout(pause - least):
                    await watch.doubted.wait()
