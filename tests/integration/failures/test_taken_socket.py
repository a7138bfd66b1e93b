"""A second server on the socket of a first one: the first is not found any more, and says so."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from integration.stack.process import Process
from integration.stack.sidecar import TBMS, Sidecar
from tests.integration.conftest import need_envoy


async def readiness(edge: Sidecar) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"{edge.admin}/readyz") as reply:
        return reply.status


@pytest.mark.envoy
async def test_a_server_whose_socket_was_taken_is_not_ready_until_it_is_started_anew(tmp_path: Path) -> None:
    need_envoy("1.40")
    async with Sidecar(tmp_path, []) as edge:
        assert await readiness(edge) == 200
        second = Process("second server", [TBMS, "serve", "--config", edge.config], tmp_path / "second.log")

        async def serves() -> bool:
            return '"event": "serving"' in second.tail(20)

        await second.start(serves)
        await second.stop()
        assert await readiness(edge) == 503
        await edge.server.stop()
        await asyncio.wait_for(edge.start_server(), 60)
        assert await readiness(edge) == 200
