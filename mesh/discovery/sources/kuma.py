"""The Kuma source: the dataplanes of a mesh, out of the REST API of its control plane.

The API has no watch and no ETag, so the overview is read again and again, page by page.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from mesh.discovery.finds import MOST_ENTRIES, Finds, joined
from mesh.discovery.kuma_services import add_far_nodes
from mesh.discovery.merge import NodeSet
from mesh.discovery.ports import Port
from mesh.errors import MeshError
from mesh.json_http import BaseUrl, ClientTls, JsonHttp, read_secret
from mesh.node import ProtocolKind
from mesh.settings import Settings

Label = Annotated[str, StringConstraints(min_length=1, max_length=317)]
Inbound = Port | Annotated[str, StringConstraints(min_length=1, max_length=63)]
_READINGS = 3  # of a list that changes while its pages are read


class KumaSettings(Settings):
    """Nodes that are dataplanes of a Kuma mesh."""

    kind: Literal["kuma"]
    url: BaseUrl = Field(description="The control plane's API: http:// port 5681, https:// port 5682.")
    mesh: str = Field(
        "default", pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253, description="The mesh of the nodes."
    )
    labels: dict[Label, Label] = Field(
        min_length=1, max_length=16, description="What the nodes have, such as `kuma.io/workload: models`."
    )
    grpc: Inbound | None = Field(None, description="Name or port of the inbound of the gRPC API.")
    rest: Inbound | None = Field(None, description="Name or port of the inbound of the REST API.")
    residency: Inbound | None = Field(None, description="Name or port of the inbound of `node.publish`, or its port.")
    other_zones: dict[Label, Label] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="What MeshServices have that stand for one node of another zone each, such as `tbms/node: own`. "
        "Without it nodes of other zones are not looked for.",
    )
    token_file: Path | None = Field(None, description="File with a token of the API; read at each new start.")
    tls: ClientTls | None = None
    page: int = Field(200, ge=1, le=1000, description="Dataplanes asked for at a time.")
    poll_seconds: float = Field(1.0, ge=0.1, le=300, description="How often it is asked.")
    timeout: float = Field(5.0, gt=0, le=60, description="Seconds for one page.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.grpc is None and self.rest is None:
            raise ValueError("neither a grpc nor a rest inbound is given")
        return self


class KumaSource:
    """See `NodeSource`."""

    def __init__(self, settings: KumaSettings) -> None:
        self._settings = settings
        self._mesh = f"/meshes/{settings.mesh}"

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        settings, finds = self._settings, Finds()
        headers = {}
        if settings.token_file is not None:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(read_secret, settings.token_file)}"
        tls = None if settings.tls is None else await asyncio.to_thread(settings.tls.context)
        async with JsonHttp(settings.url, settings.timeout, tls=tls, headers=headers) as http:
            while True:
                items = await self._items(http, f"{self._mesh}/dataplanes/_overview", settings.labels)
                services: list[Any] = []
                if settings.other_zones is not None:
                    services = await self._items(http, f"{self._mesh}/meshservices", settings.other_zones)
                yield nodes_of(items, settings, services, finds)
                await asyncio.sleep(settings.poll_seconds)

    async def _items(self, http: JsonHttp, path: str, labels: Mapping[str, str]) -> list[Any]:
        """Every item of every page. Pages are counted by place: when one goes while they are read, the next one slips
        past us. So a list whose total changes, or that is not complete, is read anew."""
        for _ in range(_READINGS):
            items, totals = await self._reading(http, path, labels)
            names = {item.get("name") for item in items if isinstance(item, dict)}
            if len(totals) == 1 and totals == {len(names)}:
                return items
        raise MeshError(f"GET {path}: the list changes faster than it can be read")

    async def _reading(self, http: JsonHttp, path: str, labels: Mapping[str, str]) -> tuple[list[Any], set[int]]:
        items: list[Any] = []
        totals: set[int] = set()
        asked = {f"filter[labels.{label}]": value for label, value in labels.items()}
        asked["size"] = str(self._settings.page)
        while True:
            page = (await http.get(path, {**asked, "offset": str(len(items))})).document
            found = page.get("items") if isinstance(page, dict) else None
            if not isinstance(found, list) or not isinstance(page.get("total"), int):
                raise MeshError(f"GET {path}: the reply is not what a control plane says")
            totals.add(page["total"])
            items += found
            if len(items) > MOST_ENTRIES:
                raise MeshError(f"GET {path}: more than {MOST_ENTRIES} items")
            # `next` is a URL of the control plane's own choice: that there is one is all that we take from it.
            if not page.get("next") or not found:
                return items, totals


def nodes_of(
    items: list[Any], settings: KumaSettings, services: Iterable[Any] = (), finds: Finds | None = None
) -> NodeSet:
    """The nodes among dataplanes: those with the labels, whose proxy is connected and whose inbounds are healthy. And
    those of other zones among MeshServices (`services`).
    """
    finds = finds or Finds()
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        try:
            fields = _fields(item, settings)
        except (KeyError, TypeError, AttributeError, IndexError):
            finds.refuse(str(name), "it is not what a control plane says of a dataplane")
            continue
        if fields is not None:
            finds.add(fields)
    wanted: dict[ProtocolKind, int | str | None] = {"grpc": settings.grpc, "rest": settings.rest}
    ports = {kind: port for kind, port in wanted.items() if port is not None}
    add_far_nodes(finds, list(services), settings.other_zones or {}, ports)
    return finds.node_set()


def _fields(item: dict[str, Any], settings: KumaSettings) -> dict[str, Any] | None:
    """None for a dataplane that is no node now."""
    labels = item.get("labels") or {}
    if any(labels.get(label) != value for label, value in settings.labels.items()) or not _online(item):
        return None
    networking = item["dataplane"]["networking"]
    inbounds = [inbound for inbound in networking.get("inbound") or () if _healthy(inbound)]
    fields = {}
    for protocol, wanted in (("grpc", settings.grpc), ("rest", settings.rest), ("residency", settings.residency)):
        if wanted is None:
            continue
        ports = [inbound["port"] for inbound in inbounds if wanted in (inbound["port"], inbound.get("name"))]
        if ports:
            fields[protocol] = joined(str(networking["address"]), int(ports[0]))
        elif protocol == "residency" and isinstance(wanted, int):
            fields[protocol] = joined(str(networking["address"]), wanted)
    if "grpc" not in fields and "rest" not in fields:
        return None
    return {"id": item["name"], "zone": labels.get("kuma.io/zone", ""), **fields}


def _online(item: dict[str, Any]) -> bool:
    """Whether its proxy is connected to a control plane: its last subscription has no end."""
    subscriptions: list[dict[str, Any]] = (item.get("dataplaneInsight") or {}).get("subscriptions") or []
    return bool(subscriptions) and "disconnectTime" not in subscriptions[-1]


def _healthy(inbound: dict[str, Any]) -> bool:
    """A `health` without `ready: true` is unhealthy: the JSON of protobuf leaves false out."""
    if inbound.get("state", "Ready") != "Ready":
        return False
    return "health" not in inbound or (inbound["health"] or {}).get("ready") is True
