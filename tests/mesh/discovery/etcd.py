"""The real etcd of these tests, and what sources say within a patience that a busy machine does not use up."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from integration.peers.etcd import Etcd
from mesh.discovery.merge import NodeSet

PATIENCE = 60.0


def real_etcd(folder: Path) -> Etcd:
    try:
        return Etcd(folder)
    except FileNotFoundError as error:
        pytest.skip(str(error))


async def until(snapshots: AsyncGenerator[NodeSet, None], wanted: Callable[[NodeSet], bool]) -> NodeSet:
    """The first snapshot that is as wanted."""
    async with asyncio.timeout(PATIENCE):
        async for found in snapshots:
            if wanted(found):
                return found
    raise AssertionError("the source ended")


def ids(found: NodeSet) -> list[str]:
    return [node.id for node in found.nodes]
