"""Another zone: nodes that an edge's Envoy knows by a header only, behind an Envoy that passes connections on to them,
as an ingress of a mesh does.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from integration.stack.sidecar import Sidecar
from mesh.node import Node
from tests.integration.recorder import Recorder, recorder

_TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


class OpenSidecar(Sidecar):
    """An edge whose listener for clients takes no header off on arrival, as that of a mesh's sidecar."""

    def _render_bootstrap(self) -> None:
        super()._render_bootstrap()
        document = yaml.safe_load(self._bootstrap.read_text())
        (clients,) = [each for each in document["static_resources"]["listeners"] if each["name"] == "clients"]
        manager = clients["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["early_header_mutation_extensions"]
        self._bootstrap.write_text(yaml.safe_dump(document))


@dataclass
class FarNode:
    """A node of the other zone, which can be stopped and started again where it was."""

    seen: Recorder
    node: Node
    ports: list[int]
    _running: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        self.seen = await self._running.enter_async_context(recorder(self.node.id, self.ports))

    async def stop(self) -> None:
        await self._running.aclose()


@asynccontextmanager
async def far_zone(folder: Path, models: Mapping[str, frozenset[str]]) -> AsyncIterator[dict[str, FarNode]]:
    """The nodes by id. Each declares its models, and `node` is as the configuration of an edge has it."""
    nodes: dict[str, FarNode] = {}
    listeners: list[Any] = []
    clusters: list[Any] = []
    for name, held in models.items():
        own, outer = free_ports(2), free_ports(2)
        grpc, rest = (f"127.0.0.1:{port}" for port in outer)
        node = Node(name, grpc, rest, "zone-2", models=held, reached_by="header")
        nodes[name] = FarNode(Recorder(node), node, own)
        for outside, inside in zip(outer, own, strict=True):
            listeners.append(_listener(outside, inside))
            clusters.append(_cluster(inside))
    (admin,) = free_ports(1)
    document = {
        "admin": {"address": _address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }
    config = folder / "ingress.yaml"
    config.write_text(yaml.safe_dump(document))
    command: list[str | Path] = [envoy_binary(), "--config-path", config, "--concurrency", "1"]
    ingress = Process("ingress", [*command, "--disable-hot-restart", "--log-level", "warning"], folder / "ingress.log")
    try:
        for each in nodes.values():
            await each.start()
        await ingress.start(answers(f"http://127.0.0.1:{admin}/ready"))
        yield nodes
    finally:
        await ingress.stop()
        for each in nodes.values():
            await each.stop()


def holding(node: Node, *models: str) -> Node:
    """The node, with these models declared, in this zone."""
    return replace(node, models=frozenset(models), zone="zone-1")


def _listener(outside: int, inside: int) -> dict[str, Any]:
    proxy = {"@type": _TCP_PROXY, "stat_prefix": f"to-{inside}", "cluster": f"to-{inside}"}
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    return {"name": f"at-{outside}", "address": _address(outside), "filter_chains": [chain]}


def _cluster(port: int) -> dict[str, Any]:
    hosts = [{"endpoint": {"address": _address(port)}}]
    assignment = {"cluster_name": f"to-{port}", "endpoints": [{"lb_endpoints": hosts}]}
    return {"name": f"to-{port}", "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
