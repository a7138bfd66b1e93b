"""SIGTERM to a node's server while an edge still follows it: what it says of itself, and what ends the wait."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from integration.stack.cached_node import CachedNode, CachedSpec, Served
from integration.stack.process import answers
from tests.integration.metrics import metric
from tests.integration.node.cache_node import until

NOBODY = Served("127.0.0.1:1", "127.0.0.1:1")
LONG = 600.0


@asynccontextmanager
async def followed(folder: Path, drain_seconds: float) -> AsyncIterator[tuple[CachedNode, httpx.Response]]:
    """A node's server, which no Envoy stands before, and the stream by which an edge follows it."""
    (folder / "shelf").mkdir()
    node = CachedNode(CachedSpec("node"), folder / "shelf", folder / "node", NOBODY, drain_seconds=drain_seconds)
    node.agent.write_config()
    try:
        await node.agent.start_server()
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
            http.stream("GET", f"http://{node.node.residency}/residency") as stream,
        ):
            assert stream.status_code == 200
            yield node, stream
    finally:
        node.kill()


async def draining(node: CachedNode) -> bool:
    return bool((await node.agent.status())["draining"])


async def ended(node: CachedNode) -> int | None:
    """The exit status, once the process has ended by itself."""
    await until(lambda: not node.agent.server.running)
    return await node.agent.server.stop()


async def test_a_node_is_ready_until_it_has_handed_over(tmp_path: Path) -> None:
    async with followed(tmp_path, LONG) as (node, stream):
        assert await metric(node.agent.admin, "tbms_draining") == 0
        node.agent.server.signal(signal.SIGTERM)
        await until(lambda: draining(node))
        assert await metric(node.agent.admin, "tbms_draining") == 1
        assert await answers(f"{node.agent.admin}/readyz")(), "its models are still on their way to other nodes"
        await stream.aclose()
        assert await ended(node) == 0


async def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    async with followed(tmp_path, LONG) as (node, _):
        node.agent.server.signal(signal.SIGTERM)
        await until(lambda: draining(node))
        node.agent.server.signal(signal.SIGINT)
        assert await ended(node) == 0
        assert "asked to stop at once" in node.agent.server.tail()


async def test_a_drain_ends_when_its_time_is_over(tmp_path: Path) -> None:
    async with followed(tmp_path, 0.2) as (node, _):
        node.agent.server.signal(signal.SIGTERM)
        assert await ended(node) == 0
