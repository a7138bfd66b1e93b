"""One residency stream over HTTP: what a node says line by line, as long as whole lines come in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from mesh.node import Node
from mesh.residency.line import Heard, Lines, ResidencyError

PATH = "/residency"


@asynccontextmanager
async def residency_stream(
    session: aiohttp.ClientSession, node: Node, silence: float
) -> AsyncIterator[AsyncIterator[Heard]]:
    """The lines of that node; they end when the node ends them.

    Raises ResidencyError where they are not what they should be, TimeoutError if none comes for `silence` seconds, and
    what aiohttp raises.
    """
    async with session.get(f"http://{node.residency}{PATH}", allow_redirects=False) as reply:
        if reply.status != 200:
            raise ResidencyError(f"The node answers {reply.status}.")
        yield _lines(reply, silence)


async def _lines(reply: aiohttp.ClientResponse, silence: float) -> AsyncIterator[Heard]:
    """Whole lines, none later than `silence` after the one before: a trickle of bytes is no sign of life."""
    reader = Lines()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + silence
    while True:
        async with asyncio.timeout_at(deadline):
            data = await reply.content.readany()
        if not data:
            return
        for heard in reader.push(data):
            yield heard
            deadline = loop.time() + silence
