"""What Envoy tells of known calls: how often it has asked the server, and which map it has."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from integration.stack.sidecar import Sidecar
from tests.integration.raw import rest_client


async def asked(edge: Sidecar) -> int:
    """Streams that the listener of calls has opened to the server since Envoy started: an edge's, or a node's."""
    async with httpx.AsyncClient(trust_env=False) as http:
        stats = (
            await http.get(f"{edge.envoy_admin}/stats?filter=http[.](clients|models)[.]ext_proc[.].*streams_started")
        ).text
    return sum(int(line.rpartition(": ")[2]) for line in stats.splitlines() if line)


async def until_map(edge: Sidecar, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The map's status, once it is so."""
    async with asyncio.timeout(30):
        while not true(told := (await edge.status())["known"]):
            await asyncio.sleep(0.02)
    return told


async def until_known(
    edge: Sidecar, path: str, content: bytes = b"{}", headers: Mapping[str, str] | None = None
) -> None:
    """Calls of that path no longer ask the server."""
    async with asyncio.timeout(30), rest_client(edge.http) as client:
        while True:
            before = await asked(edge)
            await client.post(path, content=content, headers=headers)
            if await asked(edge) == before:
                return
            await asyncio.sleep(0.05)
