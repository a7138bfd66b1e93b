"""The Consul source: the healthy instances of a service, by blocking queries.

A query hangs until something has changed after the index that it names, or `wait_seconds` have passed. An index that
goes backwards (a server that was restored) starts again from 0, as Consul's documentation asks of its clients.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mesh.digits import number
from mesh.discovery.finds import Finds, joined
from mesh.discovery.merge import NodeSet
from mesh.errors import MeshError
from mesh.json_http import BaseUrl, ClientTls, JsonHttp, read_secret
from mesh.settings import Settings

_SPACING = 0.1  # seconds between two queries, should a server answer at once each time
_INDEX_DIGITS = 20

_PORTS = ("grpc", "rest", "residency")


class ConsulSettings(Settings):
    """Nodes that are instances of a service in Consul."""

    kind: Literal["consul"]
    url: BaseUrl = Field("http://127.0.0.1:8500", description="Of the local agent, or of a server.")
    service: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        max_length=128,
        description="The service whose instances are the nodes.",
    )
    datacenter: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]+$", max_length=64, description="Another datacenter than the agent's own."
    )
    layout: Literal["tbms", "tfservingcache"] = Field(
        "tbms",
        description="tbms: ports in the instance's meta data, as grpc, rest and residency, beside zone and weight. "
        "tfservingcache: in its tags, as grpc:8100 and rest:8093.",
    )
    token_file: Path | None = Field(None, description="File with an ACL token; read at each new start.")
    tls: ClientTls | None = None
    wait_seconds: int = Field(
        10, ge=1, le=600, description="Longest time that a query hangs: an agent that hangs is noticed then."
    )
    timeout: float = Field(3.0, gt=0, le=60, description="Seconds for an answer, beyond those that it hangs.")


class ConsulSource:
    """See `NodeSource`."""

    def __init__(self, settings: ConsulSettings) -> None:
        self._settings = settings

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        settings, clock = self._settings, asyncio.get_running_loop().time
        headers = {}
        if settings.token_file is not None:
            headers["X-Consul-Token"] = await asyncio.to_thread(read_secret, settings.token_file)
        tls = None if settings.tls is None else await asyncio.to_thread(settings.tls.context)
        asked = {"passing": "true", "wait": f"{settings.wait_seconds}s"}
        if settings.datacenter is not None:
            asked["dc"] = settings.datacenter
        # Consul adds up to a sixteenth of the wait, so that not all come back at once.
        within = settings.wait_seconds * 17 / 16 + settings.timeout
        index = 0
        async with JsonHttp(settings.url, settings.timeout, tls=tls, headers=headers) as http:
            while True:
                began = clock()
                path = f"/v1/health/service/{settings.service}"
                reply = await http.get(path, {**asked, "index": str(index)}, within=within)
                yield nodes_of(reply.document, settings)
                told = number(reply.headers.get("x-consul-index", ""), _INDEX_DIGITS)
                if told is None:
                    raise MeshError(f"GET {path}: the reply has no X-Consul-Index")
                index = 0 if told < index else told
                await asyncio.sleep(max(0.0, began + _SPACING - clock()))


def nodes_of(document: Any, settings: ConsulSettings) -> NodeSet:
    """The nodes among instances that pass their checks. Raises MeshError for what is no list."""
    if not isinstance(document, list):
        raise MeshError("Consul: the reply is no list of instances")
    finds = Finds()
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
    ports = {protocol: _port(meta[protocol]) for protocol in _PORTS if protocol in meta}
    return ports, {name: meta[name] for name in ("zone", "weight") if name in meta}


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
