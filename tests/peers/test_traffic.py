"""A node that joins by a real control plane takes traffic, and one that leaves gets none."""

from pathlib import Path

import pytest

from integration.peers.ways import REAL_WAYS
from integration.stack.embedded import EmbeddedNode
from tests.integration.conftest import need_envoy
from tests.integration.discovery.traffic import join_and_leave, opened


@pytest.mark.envoy
@pytest.mark.parametrize("kind", REAL_WAYS)
async def test_nodes_join_and_leave(
    kind: str, nodes: dict[str, EmbeddedNode], names: list[str], tmp_path: Path
) -> None:
    need_envoy("1.40")
    await join_and_leave(opened(REAL_WAYS[kind], tmp_path), kind, nodes, names, tmp_path)
