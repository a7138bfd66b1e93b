"""A node that joins by a source takes traffic, and one that leaves gets none: through a real edge and a real Envoy."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from ext_proc.edge.endpoint_files import update_endpoint_files
from ext_proc.envoy_config import EnvoySettings, render
from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING, need_envoy
from tests.integration.discovery.ways import WAYS
from tests.integration.raw import rest, rest_client

pytestmark = pytest.mark.envoy
IMAGE = np.full((1, 64), 8, dtype=np.float32)
PATIENCE = 60.0


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


@pytest.mark.parametrize("name", WAYS)
async def test_nodes_join_and_leave(
    name: str, nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path
) -> None:
    need_envoy("1.40")
    first, second = nodes["node-a"], nodes["node-b"]
    async with WAYS[name](tmp_path) as way:
        sections = {
            **BY_THE_RING, "discovery": [way.section], "envoy": {"endpoints_dir": str(tmp_path / "endpoints")},
        }  # fmt: skip
        async with Sidecar(tmp_path, [], sections=sections) as edge:
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
            (told,) = [source for source in status["sources"] if name in source["name"]]
            assert told["name"] == f"discovery.0 ({name})"
            assert told["nodes"] == 1
            assert not told["stale"]
            await edge.server.stop()
            assert "of-the-test" not in edge.server.log.read_text()


async def test_a_source_that_dies_leaves_its_nodes_in_force_also_over_a_restart_of_the_edge(
    nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path
) -> None:
    """Envoy keeps what its files list; the server, that knows nobody any more, takes nothing out of them."""
    need_envoy("1.40")
    first = nodes["node-a"]
    async with WAYS["etcd"](tmp_path) as way:
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


class KnownToEnvoy(Sidecar):
    """Its Envoy takes the nodes from files that somebody else writes, as it would from a control plane."""

    def __init__(self, folder: Path, endpoints: Path) -> None:
        super().__init__(folder, [], sections=BY_THE_RING)
        section = {"kind": "envoy", "admin": self.envoy_admin.removeprefix("http://"), "poll_seconds": 0.2}
        self._sections["discovery"] = [{**section, "grpc": "models_grpc", "rest": "models_rest"}]
        self._endpoints = endpoints

    def _render_bootstrap(self) -> None:
        with_files = EnvoySettings.model_validate({**self._sections["envoy"], "endpoints_dir": str(self._endpoints)})
        server = self._sections["server"]["listen"]
        self._bootstrap.write_text(render(with_files, version=self.version, server=server, nodes=()))


async def test_what_the_local_envoy_knows(nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path) -> None:
    need_envoy("1.40")
    first, second = nodes["node-a"], nodes["node-b"]
    endpoints = tmp_path / "endpoints"
    update_endpoint_files(endpoints, [first.node])
    async with KnownToEnvoy(tmp_path, endpoints) as edge:
        await until_answered_by(edge, names, first)
        update_endpoint_files(endpoints, [first.node, second.node])
        await until_answered_by(edge, names, first, second)
        update_endpoint_files(endpoints, [second.node])
        await until_answered_by(edge, names, second)
        async with asyncio.timeout(PATIENCE):
            while [node["id"] for node in (await edge.status())["nodes"]] != ["127.0.0.1"]:
                await asyncio.sleep(0.1)
