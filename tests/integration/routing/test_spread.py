"""Plain calls through a real Envoy spread over all nodes that hold their model, though nobody sees them end."""

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from integration.stack.embedded import NodeSpec
from integration.stack.stack import Stack
from tests.integration import calls

IMAGE = np.full((1, 64), 8, dtype=np.float32)
CALLS = 640
FOUR = ("node-a", "node-b", "node-c", "node-d")


@pytest.mark.parametrize("declared", [False, True], ids=["undeclared", "declared"])
@pytest.mark.parametrize(("in_flight", "delay_ms"), [(16, 100.0), (48, 20.0)])
async def test_every_holder_gets_its_share(
    repository: Path, names: list[str], in_flight: int, delay_ms: float, declared: bool
) -> None:
    models = frozenset(names) if declared else None
    specs = [NodeSpec(name, models=models, delay_ms=delay_ms) for name in FOUR]
    async with Stack(repository, specs, sections={"routing": {"replicas": 4}}) as stack:
        count = await _closed_loop(stack.edge.http, calls.tfs_rest(names[0], IMAGE), in_flight)
        assert count.total() == CALLS
        for node in stack.nodes.values():
            assert 0.15 * CALLS <= count[node.node.rest or ""] <= 0.35 * CALLS, count


async def _closed_loop(base: str, call: calls.Rest, in_flight: int) -> Counter[str]:
    """`CALLS` calls, always `in_flight` of them at once; how many each node answered."""
    count: Counter[str] = Counter()
    left = iter(range(CALLS))
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(base, connector=connector) as client:

        async def work() -> None:
            for _ in left:
                async with client.post(call.path, data=call.body, headers=call.headers) as reply:
                    assert reply.status == 200, await reply.text()
                    count[reply.headers["x-tbms-upstream"]] += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(work())
    return count
