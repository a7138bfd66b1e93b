"""A node that joins by a real control plane takes traffic, and one that leaves gets none."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import pytest_asyncio

from integration.peers.kube_apiserver import KubeApiserver
from integration.peers.ways import by_real_consul, kubernetes_way
from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.ports import outside_address
from tests.integration.conftest import need_envoy
from tests.integration.discovery.traffic import join_and_leave, opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def nodes(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, EmbeddedNode]]:
    """Two, at this machine's own address where it has one: a kube-apiserver takes none of the loopback."""
    host, folder = outside_address() or "127.0.0.1", tmp_path_factory.mktemp("nodes")
    started = {name: EmbeddedNode(NodeSpec(name, host=host), repository, folder) for name in ("node-a", "node-b")}
    try:
        for node in started.values():
            await node.start()
        yield started
    finally:
        for node in started.values():
            await node.stop()


@pytest.mark.envoy
async def test_nodes_join_and_leave_by_consul(nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path) -> None:
    need_envoy("1.40")
    await join_and_leave(opened(by_real_consul, tmp_path), "consul", nodes, names, tmp_path)


@pytest.mark.envoy
@pytest.mark.skipif(outside_address() is None, reason="this machine has no address but those of the loopback")
async def test_nodes_join_and_leave_by_kubernetes(
    emptied: KubeApiserver, nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path
) -> None:
    need_envoy("1.40")
    await join_and_leave(nullcontext(await kubernetes_way(emptied)), "kubernetes", nodes, names, tmp_path)
