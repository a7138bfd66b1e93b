"""Who answers calls through an edge whose nodes join and leave by some way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from integration.peers.ways import Open, Way
from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING
from tests.integration.raw import rest, rest_client

IMAGE = np.full((1, 64), 8, dtype=np.float32)
PATIENCE = 60.0


@asynccontextmanager
async def opened(way: Open, folder: Path) -> AsyncIterator[Way]:
    """The way, or the test is skipped where what it needs is not there."""
    try:
        manager = way(folder)
        entered = await manager.__aenter__()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    try:
        yield entered
    finally:
        await manager.__aexit__(None, None, None)


async def answering(edge: Sidecar, names: list[str]) -> set[str]:
    """The nodes that answer calls for these models; `none` where a call is refused."""
    async with rest_client(edge.http) as client:
        found = set()
        for model in names:
            call = calls.tfs_rest(model, IMAGE)
            reply = await rest(client, call.path, call.body, call.headers)
            found.add(str(reply.upstream) if reply.status == 200 else "none")
        return found


async def until_answered_by(edge: Sidecar, names: list[str], *wanted: EmbeddedNode) -> None:
    endpoints = {str(node.node.rest) for node in wanted} or {"none"}
    async with asyncio.timeout(PATIENCE):
        while await answering(edge, names) != endpoints:
            await asyncio.sleep(0.1)


async def join_and_leave(
    opening: AbstractAsyncContextManager[Way],
    kind: str,
    nodes: dict[str, EmbeddedNode],
    names: list[str],
    folder: Path,
) -> None:
    """Two nodes join one after the other, and the first leaves."""
    first, second = nodes["node-a"], nodes["node-b"]
    async with opening as way:
        sections = {
            **BY_THE_RING, "discovery": [way.section], "envoy": {"endpoints_dir": str(folder / "endpoints")},
        }  # fmt: skip
        async with Sidecar(folder, [], sections=sections) as edge:
            await way.join(first.node)
            await until_answered_by(edge, names, first)
            await way.join(second.node)
            await until_answered_by(edge, names, first, second)
            await way.leave(first.node)
            await until_answered_by(edge, names, second)
            # And so it stays.
            for _ in range(3):
                assert await answering(edge, names) == {str(second.node.rest)}
            status = await edge.status()
            (told,) = [source for source in status["sources"] if kind in source["name"]]
            assert told["name"] == f"discovery.0 ({kind})"
            assert told["nodes"] == 1
            assert not told["stale"]
            await edge.server.stop()
            assert "of-the-test" not in edge.server.log.read_text()
