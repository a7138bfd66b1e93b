"""The Consul source: the healthy instances of a service, by blocking queries.

A query hangs until something has changed after the index that it names, or `wait_seconds` have passed. An index that
goes backwards (a server that was restored) starts again from 0, as Consul's documentation asks of its clients.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Literal

from pydantic import Field

from mesh.digits import number
from mesh.discovery.consul_client import PORTS, ConsulConnection, connected
from mesh.discovery.finds import Finds, joined
from mesh.discovery.merge import NodeSet
from mesh.errors import MeshError

_SPACING = 0.1  # seconds between two queries, should a server answer at once each time
_INDEX_DIGITS = 20


class ConsulSettings(ConsulConnection):
    """Nodes that are instances of a service in Consul."""

    kind: Literal["consul"]
    datacenter: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]+$", max_length=64, description="Another datacenter than the agent's own."
    )
    layout: Literal["tbms", "tfservingcache"] = Field(
        "tbms",
        description="tbms: ports in the instance's meta data, as grpc, rest and residency, beside zone, weight and "
        "models. tfservingcache: in its tags, as grpc:8100 and rest:8093.",
    )
    wait_seconds: int = Field(
        10, ge=1, le=600, description="Longest time that a query hangs: an agent that hangs is noticed then."
    )


class ConsulSource:
    """See `NodeSource`."""

    def __init__(self, settings: ConsulSettings) -> None:
        self._settings = settings

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        settings, finds, clock = self._settings, Finds(), asyncio.get_running_loop().time
        asked = {"passing": "true", "wait": f"{settings.wait_seconds}s"}
        if settings.datacenter is not None:
            asked["dc"] = settings.datacenter
        # Consul adds up to a sixteenth of the wait, so that not all come back at once.
        within = settings.wait_seconds * 17 / 16 + settings.timeout
        index, had = 0, False
        path = f"/v1/health/service/{settings.service}"
        async with connected(settings) as http:
            while True:
                began = clock()
                reply = await http.get(path, {**asked, "index": str(index)}, within=within)
                if had and not reply.document:
                    # A query that hung while its token was revoked ends in an empty list: only a new one tells.
                    reply = await http.get(path, {**asked, "index": "0"}, within=within)
                had = bool(reply.document)
                # Who may not read the instances is told that there are none.
                if reply.headers.get("x-consul-results-filtered-by-acls") == "true":
                    raise MeshError(f"GET {path}: the token does not allow to read all instances and their hosts")
                yield nodes_of(reply.document, settings, finds)
                told = number(reply.headers.get("x-consul-index", ""), _INDEX_DIGITS)
                if told is None:
                    raise MeshError(f"GET {path}: the reply has no X-Consul-Index")
                index = 0 if told < index else told
                await asyncio.sleep(max(0.0, began + _SPACING - clock()))


def nodes_of(document: Any, settings: ConsulSettings, finds: Finds | None = None) -> NodeSet:
    """The nodes among instances that pass their checks. Raises MeshError for what is no list."""
    if not isinstance(document, list):
        raise MeshError("Consul: the reply is no list of instances")
    finds = finds or Finds()
    read = _by_meta if settings.layout == "tbms" else _by_tags
    for entry in document:
        try:
            service = entry["Service"]
            name = service["ID"]
            ip = str(service.get("Address") or entry["Node"]["Address"])
            ports, rest = read(service)
        except (KeyError, TypeError, AttributeError, ValueError):
            finds.refuse("an instance", "it cannot be read")
            continue
        finds.add({"id": name, **rest, **{protocol: joined(ip, port) for protocol, port in ports.items()}})
    return finds.node_set()


def _by_meta(service: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    meta = service.get("Meta") or {}
    ports = {protocol: _port(meta[protocol]) for protocol in PORTS if protocol in meta}
    fields: dict[str, Any] = {name: meta[name] for name in ("zone", "weight") if name in meta}
    if meta.get("models"):
        fields["models"] = str(meta["models"]).split(",")
    return ports, fields


def _by_tags(service: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """`grpc:8100` and `rest:8093` (TF Serving Cache's pkg/taskhandler/discovery/consul)."""
    pairs = (str(tag).partition(":") for tag in service.get("Tags") or ())
    return {name: _port(port) for name, _, port in pairs if name in ("grpc", "rest")}, {}


def _port(text: Any) -> int:
    """Raises ValueError."""
    port = number(str(text), 5)
    if port is None:
        raise ValueError("no port")
    return port
