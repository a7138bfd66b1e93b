"""One way for each source: how a node joins and leaves, and what the edge's configuration says."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from integration.peers.consul import Consul
from integration.peers.consul_agent import ConsulAgent, consul_agent
from integration.peers.dns_server import DnsServer, dns_server
from integration.peers.etcd import Etcd
from integration.peers.kube_apiserver import KubeApiserver
from integration.peers.kubernetes_api import KubernetesApi, kubernetes_api, pod, ports
from integration.peers.kuma_overview import Overview, dataplane, overview
from mesh.address import parse_endpoint
from mesh.node import Node

ZONE = "nodes.test"
_RBAC = Path(__file__).parents[2] / "deploy/kubernetes/base/rbac.yaml"
CONSUL_EDGE = """service "models" { policy = "read" }
node_prefix "" { policy = "read" }"""
"""What an edge has to be allowed in Consul."""
CONSUL_NODE = 'service "models" { policy = "write" }'
"""What a node that registers itself has to be allowed."""


class Way(Protocol):
    """`section` is the entry of `discovery`."""

    section: dict[str, Any]

    async def join(self, node: Node) -> None:
        """The service knows the node from now on."""

    async def leave(self, node: Node) -> None:
        """It knows it no more."""


class ByDns:
    """SRV records of `ZONE`."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        server.table = {(f"{ZONE}.", "TXT"): ["x"]}
        names = {"grpc": f"_grpc._tcp.{ZONE}", "rest": f"_rest._tcp.{ZONE}"}
        server.table |= {(f"{name}.", "TXT"): ["x"] for name in names.values()}
        self.section = {
            "kind": "dns",
            "srv": names,
            "servers": [server.address],
            "least_seconds": 0.2,
            "most_seconds": 1,
        }

    async def join(self, node: Node) -> None:
        """See `Way`."""
        table, target = self._server.table, f"{node.id}.{ZONE}."
        table[(target, "A")] = [_host(node)]
        for protocol, endpoint in (("grpc", node.grpc), ("rest", node.rest)):
            port = (endpoint or "").rpartition(":")[2]
            table.setdefault((f"_{protocol}._tcp.{ZONE}.", "SRV"), []).append(f"0 0 {port} {target}")

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        for (_, kind), records in self._server.table.items():
            if kind == "SRV":
                records[:] = [record for record in records if node.id not in record]


class ByEtcd:
    """Keys."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.section = {"kind": "etcd", "endpoints": [etcd.url]}

    async def join(self, node: Node) -> None:
        """See `Way`."""
        await self.etcd.put(f"/tbms/nodes/{node.id}", json.dumps({"grpc": node.grpc, "rest": node.rest}))

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        await self.etcd.delete(f"/tbms/nodes/{node.id}")


class ByKuma:
    """Dataplanes of an overview."""

    def __init__(self, plane: Overview, token: Path) -> None:
        self._plane = plane
        plane.token = "of-the-test"
        token.write_text("of-the-test\n")
        self.section = {
            "kind": "kuma", "url": plane.url, "labels": {"kuma.io/workload": "models"}, "grpc": "grpc", "rest": "http",
            "token_file": str(token), "page": 1,
        }  # fmt: skip

    async def join(self, node: Node) -> None:
        """See `Way`."""
        ports = {
            name: int((endpoint or "").rpartition(":")[2])
            for name, endpoint in (("grpc", node.grpc), ("http", node.rest))
        }
        self._plane.items.append(dataplane(node.id, _host(node), ports, **{"kuma.io/workload": "models"}))

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        self._plane.items = [item for item in self._plane.items if item["name"] != node.id]


class ByKubernetes:
    """A slice for each node, as all of them share an address and differ in their ports."""

    def __init__(self, api: KubernetesApi | KubeApiserver, kubeconfig: Path) -> None:
        self._api = api
        self.section = {
            "kind": "kubernetes", "service": "models", "grpc": "grpc", "rest": "http", "kubeconfig": str(kubeconfig),
        }  # fmt: skip

    async def join(self, node: Node) -> None:
        """See `Way`."""
        numbers = {"grpc": int((node.grpc or "").rpartition(":")[2]), "http": int((node.rest or "").rpartition(":")[2])}
        endpoints = [pod(node.id, _host(node))]
        await self._api.put(node.id, "models", addressType="IPv4", ports=ports(**numbers), endpoints=endpoints)

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        await self._api.delete(node.id)


class ByConsul:
    """Instances at an agent, the real one or not. `token`: what it is to be shown."""

    def __init__(self, agent: ConsulAgent | Consul, token: Path | None = None) -> None:
        self._agent = agent
        self.section = {"kind": "consul", "url": agent.url, "service": "models"}
        if token is not None:
            self.section["token_file"] = str(token)

    async def join(self, node: Node) -> None:
        """See `Way`."""
        grpc, rest = ((endpoint or "").rpartition(":")[2] for endpoint in (node.grpc, node.rest))
        await self._agent.put(node.id, _host(node), grpc=grpc, rest=rest)

    async def leave(self, node: Node) -> None:
        """See `Way`."""
        await self._agent.delete(node.id)


@asynccontextmanager
async def by_kubernetes(folder: Path) -> AsyncIterator[Way]:
    """At the small server that stands for an API."""
    context = {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}
    async with kubernetes_api() as api:
        api.token = "of-the-test"
        document = {
            "current-context": "here", "contexts": [context],
            "clusters": [{"name": "c", "cluster": {"server": api.url}}],
            "users": [{"name": "u", "user": {"token": api.token}}],
        }  # fmt: skip
        (folder / "kubeconfig").write_text(json.dumps(document))
        yield ByKubernetes(api, folder / "kubeconfig")


@asynccontextmanager
async def by_consul(_: Path) -> AsyncIterator[Way]:
    """At the small server that stands for an agent."""
    async with consul_agent() as agent:
        yield ByConsul(agent)


@asynccontextmanager
async def by_real_consul(folder: Path) -> AsyncIterator[Way]:
    """At a real agent. Raises FileNotFoundError where none was built."""
    async with Consul(folder) as agent:
        token = folder / "token"
        token.write_text(await agent.token(CONSUL_EDGE))
        yield ByConsul(agent, token)


@asynccontextmanager
async def by_real_kubernetes(folder: Path) -> AsyncIterator[Way]:
    """At a real kube-apiserver, as `kubernetes_way` says. Raises FileNotFoundError where it or etcd is not there."""
    async with Etcd(folder) as etcd, KubeApiserver(folder, etcd.url) as api:
        yield await kubernetes_way(api)


async def kubernetes_way(api: KubeApiserver) -> Way:
    """With the rights of the shipped account."""
    kubeconfig, _ = await shipped_account(api)
    return ByKubernetes(api, kubeconfig)


async def shipped_account(api: KubeApiserver) -> tuple[Path, str]:
    """The service account that the product ships for edges, made in the namespace `ml`: a kubeconfig that names the
    file of its token, as a pod has it, and the token.
    """
    await api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}})
    await api.kubectl("apply", "--server-side", "--validate=strict", "-n", "ml", "-f", _RBAC)
    token, file = await api.account_token("tbms-edge"), api.folder / "tbms-edge.token"
    file.write_text(token)
    return api.write_kubeconfig("tbms-edge", {"tokenFile": str(file)}), token


@asynccontextmanager
async def by_dns(_: Path) -> AsyncIterator[Way]:
    """At a DNS server of our own."""
    async with dns_server() as server:
        yield ByDns(server)


@asynccontextmanager
async def by_etcd(folder: Path) -> AsyncIterator[Way]:
    """At a real etcd. Raises FileNotFoundError where there is none."""
    async with Etcd(folder) as etcd:
        yield ByEtcd(etcd)


@asynccontextmanager
async def by_kuma(folder: Path) -> AsyncIterator[Way]:
    """At the small server that stands for a control plane."""
    async with overview() as plane:
        yield ByKuma(plane, folder / "token")


def _host(node: Node) -> str:
    return parse_endpoint(node.rest or node.grpc or "").host


Open = Callable[[Path], AbstractAsyncContextManager[Way]]
WAYS: dict[str, Open] = {
    "dns": by_dns, "etcd": by_etcd, "kuma": by_kuma, "kubernetes": by_kubernetes, "consul": by_consul,
}  # fmt: skip
"""By kind of source, with what `make test` has at hand."""
REAL_WAYS: dict[str, Open] = {"consul": by_real_consul, "kubernetes": by_real_kubernetes}
"""With what `make peers` builds. A kube-apiserver takes no slice with addresses of the loopback."""
