"""The sidecars of a client and of a node, as a control plane of some version made them, on real Envoys.

`Mesh` is one of the folders of `samples`: its two sidecars, with mTLS between them or without, patched by policies or
as they are. The tbms servers and the model server behind are somebody else's: `sockets` says where they listen.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ext_proc.kuma.patching.applying import apply
from ext_proc.kuma.patching.resources import Resources
from integration.kuma.bootstrap import Identity, Places, permit_only, standalone, trusted_names
from integration.kuma.identities import Authority
from integration.kuma.policies import modifications, obey_traffic_policies
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers

SAMPLES = Path(__file__).parent / "samples"
ENVOYS = {"2.13": "1.36", "2.14": "1.38", "3.0": "1.39"}
"""The Envoy that each Kuma brings along."""

# As the samples have them: the model server's two ports behind the node's sidecar, the node's in the mesh, and those at
# which a client calls.
REST_BEHIND, GRPC_BEHIND = ("127.0.2.2", 18501), ("127.0.2.2", 18500)
REST_NODE, GRPC_NODE = ("127.0.1.2", 8501), ("127.0.1.2", 8500)
REST_CLIENT, GRPC_CLIENT = ("127.0.0.1", 10501), ("127.0.0.1", 10500)
_TRUST_DOMAINS = {"2.13": "spiffe://default/", "2.14": "spiffe://default/", "3.0": "spiffe://mesh.local/workload/"}


@dataclass(frozen=True)
class Behind:
    """What stands behind the sidecars: ports of the model server, and the folder of the sockets of each server.

    A path below /run/tbms is below that folder here.
    """

    rest: int
    grpc: int
    client_folder: Path = Path("/run/tbms")
    node_folder: Path = Path("/run/tbms")


@dataclass
class Mesh:
    """The two sidecars of one sample. An async context manager.

    `sample` is a folder such as "2.14/kri-mtls". Callers other than `client` are denied where there is mTLS: `stranger`
    is a second client's sidecar, which calls under another identity. Meshes that follow each other may have the same
    `ports`.
    """

    sample: str
    folder: Path
    behind: Behind
    patched: bool = True
    envoy: str | None = None
    stranger: bool = False
    ports: list[int] = field(default_factory=lambda: free_ports(9))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        kuma = self.sample.partition("/")[0]
        self.version = self.envoy or ENVOYS[kuma]
        rest_client, grpc_client, rest_node, grpc_node, other_rest, other_grpc, *admins = self.ports
        node = {REST_NODE: rest_node, GRPC_NODE: grpc_node}
        behind = {REST_BEHIND: self.behind.rest, GRPC_BEHIND: self.behind.grpc}
        self.rest, self.grpc = f"http://127.0.0.1:{rest_client}", f"127.0.0.1:{grpc_client}"
        self.stranger_rest = f"http://127.0.0.1:{other_rest}"
        self.rest_node, self.grpc_node = f"127.0.0.1:{rest_node}", f"127.0.0.1:{grpc_node}"
        client = _resources(self.sample, "client", "edge" if self.patched else None)
        served = _resources(self.sample, "node-a", "node" if self.patched else None)
        who = _TRUST_DOMAINS[kuma] + "client"
        own, others, nodes = self._identities(trusted_names(client), who)
        permit_only(served, who)
        at_client = {"/run/tbms": str(self.behind.client_folder)}
        at_node = {"/run/tbms": str(self.behind.node_folder)}
        here = Places({REST_CLIENT: rest_client, GRPC_CLIENT: grpc_client, **node}, at_client)
        there = Places({REST_CLIENT: other_rest, GRPC_CLIENT: other_grpc, **node}, at_client)
        self.client = self._sidecar("client", standalone(client, f"127.0.0.1:{admins[0]}", here, own))
        self.node = self._sidecar(
            "node", standalone(served, f"127.0.0.1:{admins[1]}", Places({**node, **behind}, at_node), nodes)
        )
        self.sidecars = [self.node, self.client]
        if self.stranger:
            # Its egress, too, would be the client's.
            bare = _resources(self.sample, "client", None)
            self.sidecars.append(self._sidecar("stranger", standalone(bare, f"127.0.0.1:{admins[2]}", there, others)))
        self._admins = {
            name: f"http://127.0.0.1:{port}" for name, port in zip(("client", "node"), admins, strict=False)
        }
        self._ready = [f"http://127.0.0.1:{port}/ready" for port in (admins[1], admins[0], admins[2])]

    async def __aenter__(self) -> "Mesh":
        try:
            await asyncio.gather(
                *(each.start(answers(url)) for each, url in zip(self.sidecars, self._ready, strict=False))
            )
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Ends all sidecars."""
        await asyncio.gather(*(each.stop() for each in self.sidecars))

    def admin(self, name: str) -> str:
        """The base URL of the admin interface of `client` or `node`."""
        return self._admins[name]

    def _identities(self, nodes: set[str], who: str) -> tuple[Identity | None, Identity | None, Identity | None]:
        if not nodes:
            return None, None, None
        authority = Authority(self.folder)
        stranger = who.removesuffix("client") + "stranger"
        return (
            authority.issue("client", [who]),
            authority.issue("stranger", [stranger]),
            authority.issue("node", nodes),
        )

    def _sidecar(self, name: str, bootstrap: Mapping[str, Any]) -> Process:
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps(bootstrap))
        command: list[str | Path] = [envoy_binary(self.version), "--config-path", config]
        command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return Process(f"{name}'s sidecar", command, self.folder / f"{name}.log")


def node_places(ports: list[int]) -> tuple[tuple[str, str], str]:
    """Of the node's sidecar of a `Mesh` with these ports: its addresses for REST and gRPC, and its admin interface."""
    return (f"127.0.0.1:{ports[2]}", f"127.0.0.1:{ports[3]}"), f"127.0.0.1:{ports[7]}"


def patched(sample: str, name: str, role: str | None) -> Resources:
    """The resources of a sidecar of a sample (`client`, `node-a`) under our policies for a role, as its Kuma patches.

    Without a role it is as the control plane made it.
    """
    resources = Resources(json.loads((SAMPLES / sample / f"{name}.before.json").read_text()))
    if role is not None:
        obey_traffic_policies(resources)
        apply(modifications(sample, role), resources, keyed=sample.startswith("3."))
    return resources


def _resources(sample: str, name: str, role: str | None) -> dict[str, dict[str, Any]]:
    return patched(sample, name, role).document()
