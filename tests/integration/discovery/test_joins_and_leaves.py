"""A node that joins by a source takes traffic, and one that leaves gets none: through a real edge and a real Envoy."""

import asyncio
from pathlib import Path

import pytest

from ext_proc.edge.endpoint_files import update_endpoint_files
from integration.peers.ways import WAYS
from integration.stack.embedded import EmbeddedNode
from integration.stack.known_to_envoy import KnownToEnvoy
from integration.stack.sidecar import Sidecar
from tests.integration.conftest import BY_THE_RING, need_envoy
from tests.integration.discovery.traffic import PATIENCE, answering, join_and_leave, opened, until_answered_by

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("name", WAYS)
async def test_nodes_join_and_leave(
    name: str, nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path
) -> None:
    need_envoy("1.40")
    await join_and_leave(opened(WAYS[name], tmp_path), name, nodes, names, tmp_path)


async def test_a_source_that_dies_leaves_its_nodes_in_force_also_over_a_restart_of_the_edge(
    nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path
) -> None:
    """Envoy keeps what its files list; the server, that knows nobody any more, takes nothing out of them."""
    need_envoy("1.40")
    first = nodes["node-a"]
    async with opened(WAYS["etcd"], tmp_path) as way:
        sections = {
            **BY_THE_RING, "discovery": [way.section], "envoy": {"endpoints_dir": str(tmp_path / "endpoints")},
        }  # fmt: skip
        async with Sidecar(tmp_path, [], sections=sections) as edge:
            await way.join(first.node)
            await until_answered_by(edge, names, first)
            way.etcd.process.kill()  # type: ignore[attr-defined]
            async with asyncio.timeout(PATIENCE):
                while not (await edge.status())["sources"][1]["stale"]:
                    await asyncio.sleep(0.1)
            status = (await edge.status())["sources"][1]
            assert status["nodes"] == 1
            assert status["down_seconds"] >= 0
            assert status["cause"]
            assert await answering(edge, names) == {str(first.node.rest)}
            await edge.server.stop()
            await edge.start_server()
            assert (await edge.status())["sources"][1]["heard_seconds_ago"] is None
            files = [file.read_text() for file in (tmp_path / "endpoints").glob("*.yaml")]
            assert len(files) == 2
            assert all("127.0.0.1" in text for text in files)


async def test_what_the_local_envoy_knows(nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path) -> None:
    need_envoy("1.40")
    first, second = nodes["node-a"], nodes["node-b"]
    endpoints = tmp_path / "endpoints"
    update_endpoint_files(endpoints, [first.node])
    async with KnownToEnvoy(tmp_path, endpoints, sections=BY_THE_RING, poll_seconds=0.2) as edge:
        await until_answered_by(edge, names, first)
        update_endpoint_files(endpoints, [first.node, second.node])
        await until_answered_by(edge, names, first, second)
        update_endpoint_files(endpoints, [second.node])
        await until_answered_by(edge, names, second)
        async with asyncio.timeout(PATIENCE):
            while [node["id"] for node in (await edge.status())["nodes"]] != ["127.0.0.1"]:
                await asyncio.sleep(0.1)
