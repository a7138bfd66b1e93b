"""The Kubernetes source: the EndpointSlices of a Service, listed by pages and then watched.

A watch that ends is nothing special here, as the API server ends each: it is resumed at the last resourceVersion that
was heard, bookmarks included. One that has expired (410) is a failure of the source, which then lists everything again.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mesh.discovery.finds import MOST_ENTRIES, Finds, id_of_address, joined
from mesh.discovery.kubernetes_client import Access, in_cluster, of_kubeconfig
from mesh.discovery.merge import NodeSet
from mesh.discovery.ports import Port
from mesh.errors import MeshError
from mesh.json_http import JsonHttp
from mesh.settings import Settings

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
PortOrName = Port | DnsLabel
_PAGE = "500"  # slices, of up to 100 endpoints each as a rule
_SHORTEST_WATCH = 1.0  # seconds: one that ended sooner is not resumed before
_ORDER = {"any": ("IPv4", "IPv6"), "ipv4": ("IPv4",), "ipv6": ("IPv6",)}

Slices = dict[str, dict[str, Any]]


class KubernetesSettings(Settings):
    """Nodes that are the pods behind a Service."""

    kind: Literal["kubernetes"]
    service: DnsLabel = Field(description="Name of the Service; a headless one is enough.")
    namespace: DnsLabel | None = Field(None, description="Without it that of our pod, or of the kubeconfig's context.")
    grpc: PortOrName | None = Field(None, description="The Service's port of the gRPC API: its name, or a number.")
    rest: PortOrName | None = Field(None, description="The same of the REST API.")
    residency: PortOrName | None = Field(None, description="The same of `node.publish`.")
    family: Literal["any", "ipv4", "ipv6"] = Field(
        "any", description="Which addresses; any: IPv4 of a pod that has both."
    )
    kubeconfig: Path | None = Field(None, description="Where we are no pod. Tokens and certificates, no plug-ins.")
    context: str | None = Field(None, max_length=253, description="Of the kubeconfig, instead of its current one.")
    watch_seconds: int = Field(
        30, ge=1, le=600, description="How long one watch lasts: a silent server is noticed then."
    )
    timeout: float = Field(5.0, gt=0, le=60, description="Seconds for one answer.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.grpc is None and self.rest is None:
            raise ValueError("neither a grpc nor a rest port is given")
        return self


class KubernetesSource:
    """See `NodeSource`."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._asked = {"labelSelector": f"kubernetes.io/service-name={settings.service}"}

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        settings, finds, clock = self._settings, Finds(), asyncio.get_running_loop().time
        slices: Slices | None = None
        version = ""
        while True:
            began = clock()
            access = await asyncio.to_thread(self._access)  # anew for each watch: tokens are rotated
            namespace = settings.namespace or access.namespace or "default"
            path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            async with JsonHttp(access.base, settings.timeout, tls=access.tls, headers=access.headers) as http:
                if slices is None:
                    slices, version = await self._listed(http, path)
                nodes = nodes_of(slices, settings, finds)
                yield nodes
                watch = {
                    **self._asked, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version,
                    "timeoutSeconds": str(settings.watch_seconds),
                }  # fmt: skip
                async with http.stream("GET", path, params=watch) as lines:
                    while not lines.ended:
                        line = await lines.next(settings.watch_seconds + settings.timeout, may_end=True)
                        if line is None and not lines.ended:
                            raise MeshError(f"GET {path}: the watch is silent for longer than it was to last")
                        if line is not None:
                            changed, version = _applied(line, slices, version)
                            nodes = nodes_of(slices, settings, finds) if changed else nodes
                            yield nodes
            await asyncio.sleep(max(0.0, began + _SHORTEST_WATCH - clock()))

    def _access(self) -> Access:
        settings = self._settings
        return in_cluster() if settings.kubeconfig is None else of_kubeconfig(settings.kubeconfig, settings.context)

    async def _listed(self, http: JsonHttp, path: str) -> tuple[Slices, str]:
        slices: Slices = {}
        asked = {**self._asked, "limit": _PAGE}
        while True:
            page = (await http.get(path, asked)).document
            try:
                for item in page.get("items") or ():
                    slices[item["metadata"]["name"]] = item
                version, following = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
            except (KeyError, TypeError, AttributeError):
                raise MeshError(f"GET {path}: the reply is no list of EndpointSlices") from None
            _bounded(slices)
            if not following:
                return slices, str(version)
            asked["continue"] = str(following)


def _applied(line: Any, slices: Slices, version: str) -> tuple[bool, str]:
    """Whether an event of the watch changed the slices, and the resourceVersion to resume at. Raises MeshError."""
    try:
        kind, item = line["type"], line["object"]
        if kind == "ERROR":
            expired = ", its resourceVersion has expired" if item.get("code") == 410 else ""
            raise MeshError(f"Kubernetes ended the watch{expired}")
        metadata = item["metadata"]
        if kind == "DELETED":
            slices.pop(metadata["name"], None)
        elif kind in ("ADDED", "MODIFIED"):
            slices[metadata["name"]] = item
            _bounded(slices)
        return kind != "BOOKMARK", str(metadata["resourceVersion"])
    except (KeyError, TypeError, AttributeError):
        raise MeshError("Kubernetes: an event of the watch cannot be read") from None


def _bounded(slices: Slices) -> None:
    if len(slices) > MOST_ENTRIES:
        raise MeshError(f"Kubernetes: more than {MOST_ENTRIES} EndpointSlices")


def nodes_of(slices: Slices, settings: KubernetesSettings, finds: Finds | None = None) -> NodeSet:
    """The nodes: pods that are ready. A pod that is being ended is not, and may still serve: as long as it does it
    stays where nodes tell what they hold: it says itself that it leaves, and its models are loaded elsewhere first.
    """
    finds = finds or Finds()
    found: dict[str, dict[str, Any]] = {}
    for family in _ORDER[settings.family]:
        for name, item in sorted(slices.items()):
            if item.get("addressType") != family:
                continue
            try:
                for fields in _endpoints(item, settings):
                    found.setdefault(fields["id"], fields)
            except (KeyError, TypeError, AttributeError, IndexError):
                finds.refuse(name, "it is no EndpointSlice")
    for fields in found.values():
        finds.add(fields)
    return finds.node_set()


def _endpoints(item: dict[str, Any], settings: KubernetesSettings) -> list[dict[str, Any]]:
    wanted = {"grpc": settings.grpc, "rest": settings.rest, "residency": settings.residency}
    ports = {
        protocol: port["port"]
        for protocol, name in wanted.items()
        for port in item.get("ports") or ()
        if name is not None and name in (port.get("name"), port.get("port"))
    }
    if not ports.keys() & {"grpc", "rest"}:
        return []
    nodes = []
    for endpoint in item.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready") in (None, True)  # unknown is ready, says the API
        leaving = settings.residency is not None and conditions.get("terminating") and conditions.get("serving")
        if ready or leaving:
            ip = str(endpoint["addresses"][0])
            pod = (endpoint.get("targetRef") or {}).get("name")
            endpoints = {protocol: joined(ip, int(port)) for protocol, port in ports.items()}
            nodes.append({"id": str(pod or id_of_address(ip)), "zone": endpoint.get("zone") or "", **endpoints})
    return nodes
