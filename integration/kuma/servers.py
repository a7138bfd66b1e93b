"""The tbms servers beside two sidecars, of a client and of a node, and the model server behind: no Envoy is started."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from integration.kuma.sidecars import Behind
from integration.stack.embedded import EmbeddedNode, NodeSpec
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from integration.stack.sidecar import TBMS


class MeshServers:
    """An edge server, a node server that loads from `shelf`, and its model server. An async context manager.

    `node` are the addresses of the node's sidecar, REST and gRPC, as the edge knows it; it declares `models`, where any
    are given. `admin` is where that sidecar has its admin interface. `calls` are those to which the node's calls go,
    where that is not its model server (benchmarks).
    """

    def __init__(
        self,
        folder: Path,
        shelf: Path,
        node: tuple[str, str],
        admin: str,
        *,
        models: frozenset[str] = frozenset(),
        calls: tuple[int, int] | None = None,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.client_folder, self.node_folder = folder / "client", folder / "node"
        repository = self.node_folder / "cache" / "models"
        self.client_folder.mkdir()
        repository.mkdir(parents=True)
        self.model_server = EmbeddedNode(NodeSpec("models", models=frozenset()), repository, self.node_folder)
        rest, grpc = (int(each.rpartition(":")[2]) for each in (self.model_server.rest, self.model_server.grpc))
        ports = free_ports(3)
        publish = f"127.0.0.1:{ports[2]}"
        self.edge_admin, self.node_admin = (f"http://127.0.0.1:{port}" for port in ports[:2])
        self.behind = Behind(*(calls or (rest, grpc)), self.client_folder, self.node_folder)
        at_edge: dict[str, Any] = {
            "server": self._server(self.client_folder, ports[0]),
            "nodes": [
                {"id": "node-a", "rest": node[0], "grpc": node[1], "models": sorted(models), "residency": publish}
            ],
            "envoy": {"egress": f"unix:{self.client_folder}/egress.sock", "server_wait_seconds": 30.0},
            "known": {"seconds": 0.1},
            # Sidecars come and go in front of these servers.
            "probe": {"failures": 100},
        }
        at_node: dict[str, Any] = {
            "server": self._server(self.node_folder, ports[1]),
            "node": {
                "publish": publish,
                "rest": f"127.0.0.1:{rest}",
                "store": {"url": shelf.absolute().as_uri()},
                "cache": {"folder": str(self.node_folder / "cache"), "loader": {"address": f"127.0.0.1:{grpc}"}},
            },
            "envoy": {"admin": admin},
            "known": {"file": str(self.node_folder / "ext_proc.sock.known.pb"), "seconds": 0.1},
        }
        for name, section in (sections or {}).items():
            for document in (at_edge, at_node):
                document[name] = {**document.get(name, {}), **section}
        self.edge = _process("edge server", self.client_folder, at_edge)
        self.node = _process("node server", self.node_folder, at_node)

    async def __aenter__(self) -> "MeshServers":
        try:
            await self.model_server.start()
            await asyncio.gather(
                self.edge.start(answers(f"{self.edge_admin}/readyz")),
                self.node.start(answers(f"{self.node_admin}/readyz")),
            )
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Ends all three."""
        await asyncio.gather(self.edge.stop(), self.node.stop())
        await self.model_server.stop()

    @staticmethod
    def _server(folder: Path, admin: int) -> dict[str, Any]:
        return {
            "listen": f"unix:{folder}/ext_proc.sock",
            "admin": f"127.0.0.1:{admin}",
            "drain_seconds": 0.1,
            "log": {"level": "warning"},
        }


def _process(name: str, folder: Path, document: Mapping[str, Any]) -> Process:
    config = folder / "tbms.yaml"
    config.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    return Process(name, [TBMS, "serve", "--config", config], folder / "server.log")
