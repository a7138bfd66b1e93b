"""Whoever scales a fleet by our metrics asks for metrics that there are."""

import re
from pathlib import Path

import pytest

from ext_proc.config import parse
from ext_proc.node.role import NodeRole
from ext_proc.telemetry.metrics import Metrics, exposition
from tests.deploy.files import DEPLOY

NODE = """
server: {{listen: "unix:{folder}/tbms.sock"}}
node:
  publish: 127.0.0.1:0
  store: {{url: "file://{folder}/store"}}
  cache: {{folder: "{folder}/cache", loader: {{api: v2, address: "127.0.0.1:1"}}}}
  batching: {{}}
"""
MADE_BY_THE_ADAPTER = {"tbms_cache_cold_calls_per_second": "tbms_cache_cold_calls_total"}
FILES = sorted((DEPLOY / "kubernetes/autoscaling").rglob("*.yaml"))


@pytest.fixture
async def of_a_node(tmp_path: Path) -> set[str]:
    """The names that a node gives on /metrics."""
    (tmp_path / "store").mkdir()
    config = parse(NODE.format(folder=tmp_path), "node.yaml")
    assert config.node is not None
    role = NodeRole(config, config.node, lambda: 0.0)
    async with role.running():
        text = exposition([Metrics(), *role.collectors()]).decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.M))


async def test_metrics_by_which_a_fleet_grows_are_those_of_a_node(of_a_node: set[str]) -> None:
    assert "tbms_cache_cold_calls_total" in of_a_node
    wanted: set[str] = set()
    for file in FILES:
        code = "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
        wanted |= set(re.findall(r"\btbms_\w+", code))
    assert wanted
    assert {MADE_BY_THE_ADAPTER.get(name, name) for name in wanted} <= of_a_node
