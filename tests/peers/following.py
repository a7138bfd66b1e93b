"""A registry at work, for the length of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.discovery.registry import Registry


@asynccontextmanager
async def following(registry: Registry) -> AsyncIterator[Registry]:
    """It begins once every source has been heard."""
    task = asyncio.create_task(registry.run())
    try:
        await registry.ready.wait()
        yield registry
    finally:
        task.cancel()
        await asyncio.wait([task])
