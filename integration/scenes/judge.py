"""Who was called, and who holds what: asked of Envoy and of the model servers themselves, never of tbms."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Set

import aiohttp

from integration.stack.cached_node import CachedNode
from integration.stack.embedded import EmbeddedNode
from integration.stack.envoy_counts import calls_by_address
from integration.stack.stack import Stack

Holders = Mapping[str, frozenset[str]]
"""Model to the ids of the nodes whose model server has it loaded."""
NOBODY: frozenset[str] = frozenset()


class Judge:
    """Watches one stack from outside."""

    def __init__(self, stack: Stack[CachedNode]) -> None:
        self._stack = stack

    async def sent(self) -> Counter[str]:
        """Calls that the edge's Envoy has sent to each node so far, retries included."""
        counts = await calls_by_address(self._stack.edge.envoy_admin)
        homes = {node.agent.target: name for name, node in self._stack.nodes.items()}
        return Counter({homes[address]: count for address, count in counts.items() if address in homes})

    async def holders(self) -> Holders:
        """What is loaded where. A node that does not run holds nothing."""
        running = {
            name: node.models
            for name, node in self._stack.nodes.items()
            if node.models is not None and node.models.process.running
        }
        async with aiohttp.ClientSession() as http:
            indexes = await asyncio.gather(*(_loaded(http, server) for server in running.values()))
        found: dict[str, set[str]] = {}
        for name, models in zip(running, indexes, strict=True):
            for model in models:
                found.setdefault(model, set()).add(name)
        return {model: frozenset(nodes) for model, nodes in found.items()}

    async def is_known_to_the_edge(self, holders: Holders, within: float = 2.0) -> bool:
        """Whether the edge's cache map comes to say the same within so many seconds."""
        try:
            async with asyncio.timeout(within):
                while await self._cache_map() != holders:
                    await asyncio.sleep(0.05)
        except (TimeoutError, aiohttp.ClientError):
            return False
        return True

    async def _cache_map(self) -> Holders:
        told: dict[str, dict[str, str]] = (await self._stack.edge.status())["models"]
        available = {
            model: frozenset(node for node, state in nodes.items() if state == "available")
            for model, nodes in told.items()
        }
        return {model: nodes for model, nodes in available.items() if nodes}


def misrouted(sent: Mapping[str, int], before: Set[str], after: Set[str], replicas: int = 1) -> int:
    """How many of the calls for one model went to a wrong node, by who had it loaded before them and after them.

    Right is a node that held the model; if none did, the one that loaded it for the calls. It holds it still. Where
    the calls leave more copies than `replicas`, all are wrong: they have loaded a model twice.
    """
    if len(after) > replicas:
        return sum(sent.values())
    right = before & after if before else after
    return sum(count for node, count in sent.items() if node not in right)


async def _loaded(http: aiohttp.ClientSession, server: EmbeddedNode) -> set[str]:
    async with http.post(f"{server.rest}/v2/repository/index", json={"ready": True}) as reply:
        return {entry["name"] for entry in await reply.json(content_type=None)}
