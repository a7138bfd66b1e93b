"""The prober: probes every node again and again, and tells when one is proven dead or alive again.

A far node is not probed while calls to it go well: what they come to is told (`observed`), and counts as a probe does.
After the first that failed it is probed at once, and gets no call before a probe went well: where a call cannot be sent
to another node, none is risked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from mesh.health.state import HealthState, ProbeSettings
from mesh.node import Node
from mesh.per_node_tasks import PerNodeTasks

logger = logging.getLogger(__name__)

Probe = Callable[[Node], Awaitable[str | None]]
"""Says why a node is not well, or None. It bounds its own time, and raises nothing."""

Verdict = Callable[[str, bool], None]
"""Takes (node id, alive) when that changes, as `Router.set_alive` does."""


class _ProbedNode:
    """What is believed of one node, and why its last probe failed. `doubted`: a call to it failed, if it is far."""

    __slots__ = ("cause", "doubted", "node", "offered", "state")

    def __init__(self, node: Node, settings: ProbeSettings) -> None:
        self.node = node
        self.state = HealthState(settings)
        self.cause: str | None = None
        self.offered = True
        self.doubted = asyncio.Event()


class Prober:
    """Probes each node on its own, and says which may get calls. `update` may be called at any time, `run` once.

    `seed` moves the probes apart.
    """

    def __init__(self, settings: ProbeSettings, probe: Probe, verdict: Verdict, seed: int) -> None:
        self._settings = settings
        self._probe = probe
        self._verdict = verdict
        self._random = Random(seed)
        self._nodes = PerNodeTasks("probe", lambda node: node.endpoints, self._begin, self._keep_probing)

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on. One whose endpoints have changed is a new one: alive until proven dead."""
        for gone in self._nodes.update(nodes if self._settings.enabled else ()):
            if not gone.offered:
                self._verdict(gone.node.id, True)

    def observed(self, node_id: str, cause: str | None) -> None:
        """A call to a far node has failed (why, in one sentence), or was answered. Of no effect for another node."""
        probed = self._nodes.get(node_id)
        if probed is None or not probed.node.is_far:
            return
        if cause is not None:
            probed.cause = cause
            probed.doubted.set()
            self._believe(probed, False)
        elif probed.state.alive:
            self._believe(probed, True)

    def cause(self, node_id: str) -> str | None:
        """Why the last probe of that node failed, or None if it did not."""
        probed = self._nodes.get(node_id)
        return None if probed is None else probed.cause

    async def run(self) -> None:
        """Probe the nodes until cancelled."""
        await self._nodes.run()

    def _begin(self, node: Node) -> _ProbedNode:
        return _ProbedNode(node, self._settings)

    async def _keep_probing(self, probed: _ProbedNode) -> None:
        await asyncio.sleep(self._random.random() * self._settings.retry_interval)
        while True:
            if probed.node.is_far and probed.state.alive and not probed.state.in_doubt:
                probed.doubted.clear()
                await probed.doubted.wait()
            probed.cause = await self._probe(probed.node)
            self._believe(probed, probed.cause is None)
            await asyncio.sleep(probed.state.pause(self._random.random()))

    def _believe(self, probed: _ProbedNode, good: bool) -> None:
        change = probed.state.observe(good)
        if change is not None:
            if change:
                logger.info("a node is alive again", extra={"node": probed.node.id})
            else:
                logger.warning("a node is dead", extra={"node": probed.node.id, "cause": probed.cause})
        offered = probed.state.alive and not (probed.node.is_far and probed.state.in_doubt)
        if offered is not probed.offered:
            probed.offered = offered
            self._verdict(probed.node.id, offered)
