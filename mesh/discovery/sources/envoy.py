"""The Envoy source: the endpoints that the local Envoy knows, which is the ground truth of what can be addressed.

Its admin interface has no watch, so /clusters is read again and again. In a mesh the clusters come from the control
plane; where they come from files that we write (`envoy.endpoints_dir`), this source would hear its own echo.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from mesh.address import parse_address
from mesh.discovery.finds import Finds, id_of_address, joined
from mesh.discovery.merge import NodeSet
from mesh.discovery.ports import Port
from mesh.errors import MeshError
from mesh.json_http import JsonHttp
from mesh.settings import Settings

ClusterName = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^*]+\*?$")]
_GONE = frozenset({"UNHEALTHY", "DRAINING", "TIMEOUT"})


class EnvoySourceSettings(Settings):
    """Nodes that the local Envoy can reach."""

    kind: Literal["envoy"]
    admin: Annotated[str, AfterValidator(lambda text: str(parse_address(text)))] = Field(
        "127.0.0.1:9901", description="Its admin interface: host:port, or unix:/path."
    )
    grpc: ClusterName | None = Field(
        None, description="Name of the cluster of the gRPC APIs. A * at its end stands for anything."
    )
    rest: ClusterName | None = Field(None, description="Name of the cluster of the REST APIs, in the same way.")
    residency: Port | None = Field(None, description="Port of `node.publish` on every node.")
    poll_seconds: float = Field(1.0, ge=0.1, le=60, description="How often it is asked.")
    timeout: float = Field(3.0, gt=0, le=60, description="Seconds for one answer.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.grpc is None and self.rest is None:
            raise ValueError("neither a grpc nor a rest cluster is given")
        return self


class EnvoySource:
    """See `NodeSource`."""

    def __init__(self, settings: EnvoySourceSettings) -> None:
        self._settings = settings

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        settings, finds = self._settings, Finds()
        async with JsonHttp.of_envoy(settings.admin, settings.timeout) as http:
            while True:
                reply = await http.get("/clusters", {"format": "json"})
                yield nodes_of(reply.document, settings, finds)
                await asyncio.sleep(settings.poll_seconds)


def nodes_of(document: Any, settings: EnvoySourceSettings, finds: Finds | None = None) -> NodeSet:
    """The nodes in what /clusters says. Raises MeshError if it knows none of the clusters, or is not such a document.

    A host of each cluster with the same address is one node. Where several hosts of a cluster share an address, as on
    one machine, nobody can say which belong together: each is a node of its own.
    """
    wanted = {"grpc": settings.grpc, "rest": settings.rest}
    found: dict[str, dict[str, list[int]]] = {}
    known = False
    try:
        for cluster in document["cluster_statuses"]:
            for protocol, name in wanted.items():
                if name is not None and _fits(cluster["name"], name):
                    known = True
                    for ip, port in _hosts(cluster):
                        known_ports = found.setdefault(ip, {}).setdefault(protocol, [])
                        if port not in known_ports:
                            known_ports.append(port)
    except (KeyError, TypeError, AttributeError):
        raise MeshError("GET /clusters: the reply is not what an Envoy says") from None
    if not known:
        raise MeshError("Envoy knows no cluster of that name (yet)")
    finds = finds or Finds()
    for ip, protocols in sorted(found.items()):
        if all(len(ports) == 1 for ports in protocols.values()):
            endpoints = {protocol: joined(ip, ports[0]) for protocol, ports in protocols.items()}
            finds.add({"id": id_of_address(ip), "residency": joined(ip, settings.residency), **endpoints})
            continue
        for protocol, ports in protocols.items():
            for port in ports:
                finds.add({"id": f"{id_of_address(ip)}-{port}", protocol: joined(ip, port)})
    return finds.node_set()


def _fits(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def _hosts(cluster: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for host in cluster.get("host_statuses", ()):
        status = host.get("health_status", {})
        socket = host["address"].get("socket_address")
        if socket is None or status.get("eds_health_status") in _GONE or status.get("pending_dynamic_removal"):
            continue
        ip, port = socket["address"], socket["port_value"]
        if isinstance(ip, str) and isinstance(port, int):
            yield ip, port
