"""What happens to the fleet in a soak. Each mishap ends with everything as it was."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from integration.stack.cached_node import CachedNode
from integration.stack.process import Process
from integration.stack.stack import Stack

_AWAY = 1.5
_STUCK = 1.5

Mishap = Callable[[Stack[CachedNode], CachedNode], Awaitable[None]]


async def node_dies(_: Stack[CachedNode], node: CachedNode) -> None:
    """All of a node at once, with -9."""
    node.kill()
    await asyncio.sleep(_AWAY)
    await node.start()


async def agent_dies(_: Stack[CachedNode], node: CachedNode) -> None:
    """The server in the node role, with -9."""
    node.agent.server.kill()
    await asyncio.sleep(_AWAY)
    await node.agent.start_server()


async def model_server_dies(_: Stack[CachedNode], node: CachedNode) -> None:
    """The model server, with -9; it comes back empty."""
    if node.models is not None:
        node.models.kill()
        await asyncio.sleep(_AWAY)
        await node.models.start()


async def model_server_hangs(_: Stack[CachedNode], node: CachedNode) -> None:
    """The model server stops answering, and goes on."""
    if node.models is not None:
        async with _stopped(node.models.process):
            await asyncio.sleep(_STUCK)


async def node_leaves(_: Stack[CachedNode], node: CachedNode) -> None:
    """A node is asked to leave, ends, and joins again."""
    await node.agent.server.stop(grace=20.0)
    await node.stop()
    await node.start()


async def edge_hangs(stack: Stack[CachedNode], _: CachedNode) -> None:
    """The server in the edge role stops answering, and goes on."""
    async with _stopped(stack.edge.server):
        await asyncio.sleep(_STUCK)


async def edge_restarts(stack: Stack[CachedNode], _: CachedNode) -> None:
    """The server in the edge role ends and comes back, as at an upgrade."""
    await stack.edge.server.stop()
    await stack.edge.start_server()


MISHAPS: tuple[Mishap, ...] = (
    node_dies,
    agent_dies,
    model_server_dies,
    model_server_hangs,
    node_leaves,
    edge_hangs,
    edge_restarts,
)


@asynccontextmanager
async def _stopped(process: Process) -> AsyncIterator[None]:
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)
