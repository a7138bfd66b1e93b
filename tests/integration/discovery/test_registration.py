"""A node's server that registers itself in a real etcd and in Consul, and takes that back at a drain."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from integration.peers.consul_agent import ConsulAgent, consul_agent
from integration.peers.etcd import Etcd
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from tests.integration.node.cache_node import until

NOBODY = Served("127.0.0.1:1", "127.0.0.1:1")
KEY = "/tbms/nodes/node-a"


@asynccontextmanager
async def registered(folder: Path) -> AsyncIterator[tuple[Etcd, CachedNode]]:
    try:
        etcd = Etcd(folder)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    (folder / "shelf").mkdir()
    node = CachedNode(CachedSpec("node-a"), folder / "shelf", folder / "node", NOBODY, drain_seconds=600)
    via = [{"kind": "etcd", "endpoints": [etcd.url], "lease_seconds": 600}]
    registration = {"id": "node-a", "grpc": node.node.grpc, "residency": node.node.residency, "via": via}
    node.agent.add_to("node", {"registration": registration})
    node.agent.write_config()
    try:
        async with etcd:
            await node.agent.start_server()
            await until(lambda: _there(etcd))
            yield etcd, node
    finally:
        node.kill()


@pytest.mark.etcd
async def test_a_node_that_nobody_follows_is_withdrawn_before_it_goes(tmp_path: Path) -> None:
    async with registered(tmp_path) as (etcd, node):
        node.agent.server.signal(signal.SIGTERM)
        await until(lambda: not node.agent.server.running)
        assert not await _there(etcd)


@pytest.mark.etcd
async def test_a_node_that_an_edge_follows_stays_until_its_models_are_elsewhere(tmp_path: Path) -> None:
    async with registered(tmp_path) as (etcd, node):
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
            http.stream("GET", f"http://{node.node.residency}/residency") as stream,
        ):
            assert stream.status_code == 200
            node.agent.server.signal(signal.SIGTERM)
            await until(lambda: _draining(node))
            assert await _there(etcd)
        await until(lambda: not node.agent.server.running)
        assert not await _there(etcd)


async def test_in_consul_and_its_metric_says_so(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    node = CachedNode(CachedSpec("node-a"), tmp_path / "shelf", tmp_path / "node", NOBODY, drain_seconds=600)
    async with consul_agent() as agent:
        via = [{"kind": "consul", "url": agent.url, "service": "models", "ttl_seconds": 600}]
        registration = {"id": "node-a", "grpc": node.node.grpc, "residency": node.node.residency, "via": via}
        node.agent.add_to("node", {"registration": registration})
        node.agent.write_config()
        try:
            await node.agent.start_server()
            await until(lambda: _are(agent, ["node-a"]))
            metrics = f"{node.agent.admin}/metrics"
            async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
                await until(lambda: _says(http, metrics, 'tbms_node_registered{service="via.0 (consul)"} 1.0'))
            node.agent.server.signal(signal.SIGTERM)
            await until(lambda: not node.agent.server.running)
            assert agent.instances == []
        finally:
            node.kill()


async def _are(agent: ConsulAgent, instances: list[str]) -> bool:
    return agent.instances == instances


async def _says(http: httpx.AsyncClient, url: str, line: str) -> bool:
    return line in (await http.get(url)).text


async def _draining(node: CachedNode) -> bool:
    return bool((await node.agent.status())["draining"])


async def _there(etcd: Etcd) -> bool:
    return await etcd.get(KEY) is not None
