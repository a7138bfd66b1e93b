"""The egress on a Unix socket: what Envoy makes of the hop mark by itself, with no server to ask."""

from pathlib import Path

import httpx
import pytest

from ext_proc.upstream.hop_mark import HopMark
from integration.stack.ports import free_port
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from tests.integration.conftest import need_envoy
from tests.integration.racing.puppet import Part, puppet

HOP = HopMark("s" * 32)


@pytest.mark.parametrize("version", ["1.40", "1.38", "1.36"])
async def test_the_nodes_of_the_mark_are_asked_in_their_order(version: str, tmp_path: Path) -> None:
    need_envoy(version)
    socket = tmp_path / "egress.sock"
    gone = f"127.0.0.1:{free_port()}"
    sections = {
        "probe": {"enabled": False},
        # Nobody finds out by himself that the node is gone.
        "envoy": {"egress": f"unix:{socket}", "health_seconds": 0},
    }
    async with puppet() as show:
        here = str(show.node.rest)
        nodes = [Node("gone", rest=gone), show.node]
        async with Sidecar(tmp_path, nodes, envoy=version, sections=sections) as edge:
            await edge.server.stop()
            assert socket.stat().st_mode & 0o777 == 0o660
            transport = httpx.AsyncHTTPTransport(uds=str(socket))
            async with httpx.AsyncClient(transport=transport, base_url="http://models") as server:

                async def call(*placed: str, **headers: str) -> tuple[int, str | None, int]:
                    show.plays(bert=Part(1))
                    own = {key.replace("_", "-"): value for key, value in headers.items()}
                    own |= {"x-tbms-hop": HOP.write(placed), "x-tbms-model": "bert", "x-tbms-call": "40"}
                    reply = await server.post("/v1/models/bert:predict", json={"instances": [1]}, headers=own)
                    for seen in show.calls:
                        assert seen.header("x-tbms-call") == "40"
                        assert {seen.header("x-tbms-hop"), seen.header("x-tbms-retries")} == {None}
                    return reply.status_code, reply.headers.get("x-tbms-upstream"), len(show.calls)

                for _ in range(5):
                    assert await call(here) == (200, here, 1)
                    assert await call(gone, here) == (200, here, 1), "the next one is asked"
                status, _, heard = await call(gone, here, x_tbms_retries="0")
                assert (status, heard) == (503, 0), "only one node may get it"
