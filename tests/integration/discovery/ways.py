"""One way for each source: how a node of these tests joins and leaves, and what the edge's configuration says."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from integration.peers.consul_agent import ConsulAgent, consul_agent
from integration.peers.dns_server import DnsServer, dns_server
from integration.peers.etcd import Etcd
from integration.peers.kubernetes_api import KubernetesApi, kubernetes_api, pod, ports
from integration.peers.kuma_overview import Overview, dataplane, overview
from mesh.node import Node


class Way(Protocol):
    """`section` is the entry of `discovery`."""

    section: dict[str, Any]

    async def join(self, node: Node) -> None: ...
    async def leave(self, node: Node) -> None: ...


class ByDns:
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        server.table = {("nodes.test.", "TXT"): ["x"]}
        names = {"grpc": "_grpc._tcp.nodes.test", "rest": "_rest._tcp.nodes.test"}
        server.table |= {(f"{name}.", "TXT"): ["x"] for name in names.values()}
        self.section = {
            "kind": "dns",
            "srv": names,
            "servers": [server.address],
            "least_seconds": 0.2,
            "most_seconds": 1,
        }

    async def join(self, node: Node) -> None:
        table, target = self._server.table, f"{node.id}.nodes.test."
        table[(target, "A")] = ["127.0.0.1"]
        for protocol, endpoint in (("grpc", node.grpc), ("rest", node.rest)):
            port = (endpoint or "").rpartition(":")[2]
            table.setdefault((f"_{protocol}._tcp.nodes.test.", "SRV"), []).append(f"0 0 {port} {target}")

    async def leave(self, node: Node) -> None:
        for (_, kind), records in self._server.table.items():
            if kind == "SRV":
                records[:] = [record for record in records if node.id not in record]


class ByEtcd:
    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.section = {"kind": "etcd", "endpoints": [etcd.url]}

    async def join(self, node: Node) -> None:
        await self.etcd.put(f"/tbms/nodes/{node.id}", json.dumps({"grpc": node.grpc, "rest": node.rest}))

    async def leave(self, node: Node) -> None:
        await self.etcd.delete(f"/tbms/nodes/{node.id}")


class ByKuma:
    def __init__(self, plane: Overview, token: Path) -> None:
        self._plane = plane
        plane.token = "of-the-test"
        token.write_text("of-the-test\n")
        self.section = {
            "kind": "kuma", "url": plane.url, "labels": {"kuma.io/workload": "models"}, "grpc": "grpc", "rest": "http",
            "token_file": str(token), "page": 1,
        }  # fmt: skip

    async def join(self, node: Node) -> None:
        ports = {
            name: int((endpoint or "").rpartition(":")[2])
            for name, endpoint in (("grpc", node.grpc), ("http", node.rest))
        }
        self._plane.items.append(dataplane(node.id, "127.0.0.1", ports, **{"kuma.io/workload": "models"}))

    async def leave(self, node: Node) -> None:
        self._plane.items = [item for item in self._plane.items if item["name"] != node.id]


class ByKubernetes:
    """A slice for each node, as all of them share an address and differ in their ports."""

    def __init__(self, api: KubernetesApi, folder: Path) -> None:
        self._api = api
        api.token = "of-the-test"
        context = {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}
        document = {
            "current-context": "here", "contexts": [context],
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": "of-the-test"}}],
        }  # fmt: skip
        (folder / "kubeconfig").write_text(json.dumps(document))
        self.section = {
            "kind": "kubernetes", "service": "models", "grpc": "grpc", "rest": "http",
            "kubeconfig": str(folder / "kubeconfig"),
        }  # fmt: skip

    async def join(self, node: Node) -> None:
        numbers = {"grpc": int((node.grpc or "").rpartition(":")[2]), "http": int((node.rest or "").rpartition(":")[2])}
        endpoints = [pod(node.id, "127.0.0.1")]
        await self._api.put(node.id, "models", addressType="IPv4", ports=ports(**numbers), endpoints=endpoints)

    async def leave(self, node: Node) -> None:
        await self._api.delete(node.id)


@asynccontextmanager
async def by_kubernetes(folder: Path) -> AsyncIterator[Way]:
    async with kubernetes_api() as api:
        yield ByKubernetes(api, folder)


class ByConsul:
    def __init__(self, agent: ConsulAgent) -> None:
        self._agent = agent
        self.section = {"kind": "consul", "url": agent.url, "service": "models"}

    async def join(self, node: Node) -> None:
        grpc, rest = ((endpoint or "").rpartition(":")[2] for endpoint in (node.grpc, node.rest))
        await self._agent.put(node.id, "127.0.0.1", grpc=grpc, rest=rest)

    async def leave(self, node: Node) -> None:
        await self._agent.delete(node.id)


@asynccontextmanager
async def by_consul(_: Path) -> AsyncIterator[Way]:
    async with consul_agent() as agent:
        yield ByConsul(agent)


@asynccontextmanager
async def by_dns(_: Path) -> AsyncIterator[Way]:
    async with dns_server() as server:
        yield ByDns(server)


@asynccontextmanager
async def by_etcd(folder: Path) -> AsyncIterator[Way]:
    try:
        etcd = Etcd(folder)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    async with etcd:
        yield ByEtcd(etcd)


@asynccontextmanager
async def by_kuma(folder: Path) -> AsyncIterator[Way]:
    async with overview() as plane:
        yield ByKuma(plane, folder / "token")


WAYS: dict[str, Callable[[Path], AbstractAsyncContextManager[Way]]] = {
    "dns": by_dns, "etcd": by_etcd, "kuma": by_kuma, "kubernetes": by_kubernetes, "consul": by_consul,
}  # fmt: skip
