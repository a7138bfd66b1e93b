"""A node as an instance of a Consul service, under a TTL check: who dies without a word fails it when the time is up.

The agent tells its servers of the instance, and tells them again should they forget it (anti-entropy); that the agent
itself still knows it is what a renewal finds out.
"""

import secrets
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from pydantic import Field

from mesh.address import parse_endpoint
from mesh.discovery.consul_client import PORTS, ConsulConnection, connected
from mesh.json_http import JsonHttp
from mesh.node import Node

_WRITER = "tbms-writer"  # the meta data that tell our entry from that of another process of this node
_MOST_META = 512  # bytes of one value of meta data, says Consul


class ConsulRegistrationSettings(ConsulConnection):
    """Registration in Consul."""

    kind: Literal["consul"]
    ttl_seconds: int = Field(
        6, ge=3, le=3600, description="How long the node is believed to be there once nobody hears of it."
    )
    forget_seconds: int = Field(
        60,
        ge=60,
        le=86_400,
        description="How long Consul remembers it after that; a minute at least.",
    )


class ConsulEntry:
    """See `Entry`."""

    service = "consul"

    def __init__(self, settings: ConsulRegistrationSettings, node: Node) -> None:
        self._settings = settings
        self._id = node.id
        self._writer = secrets.token_hex(8)
        self.length = float(settings.ttl_seconds)
        self._document = _document(settings, node, self._writer)

    def connected(self, attempt: int) -> AbstractAsyncContextManager[JsonHttp]:
        """See `Entry`. There is one agent to ask."""
        return connected(self._settings)

    async def write(self, http: JsonHttp) -> None:
        """See `Entry`. Checks of an instance of that name that are not ours go."""
        await http.send("PUT", "/v1/agent/service/register?replace-existing-checks=true", self._document)

    async def renewed(self, http: JsonHttp) -> bool:
        """See `Entry`. The entry of another process of this node is renewed as well: it has taken over."""
        reply = await http.get(f"/v1/agent/service/{self._id}", also=404)
        if reply.status == 404:
            return False
        await http.send("PUT", f"/v1/agent/check/update/{_check_id(self._id)}", {"Status": "passing"})
        return True

    async def remove(self, http: JsonHttp) -> None:
        """See `Entry`."""
        reply = await http.get(f"/v1/agent/service/{self._id}", also=404)
        if reply.status == 404:
            return
        meta = reply.document.get("Meta") if isinstance(reply.document, dict) else None
        if isinstance(meta, dict) and meta.get(_WRITER) == self._writer:
            await http.send("PUT", f"/v1/agent/service/deregister/{self._id}", None)


def check_registrable(node: Node) -> None:
    """Raises ValueError for a node that an instance in Consul cannot describe."""
    if len({parse_endpoint(endpoint).host for endpoint in _endpoints(node).values()}) > 1:
        raise ValueError("Consul knows one address for an instance: grpc, rest and residency must share theirs")
    if len(_models(node).encode()) > _MOST_META or any("," in model for model in node.models):
        raise ValueError(f"Consul takes the models only as {_MOST_META} bytes of names without a comma: leave them out")


def _document(settings: ConsulRegistrationSettings, node: Node, writer: str) -> dict[str, Any]:
    addresses = {name: parse_endpoint(endpoint) for name, endpoint in _endpoints(node).items()}
    meta = {name: str(address.port) for name, address in addresses.items()}
    meta |= {"zone": node.zone, "weight": f"{node.weight:g}", "models": _models(node), _WRITER: writer}
    first = next(iter(addresses.values()))
    return {
        "ID": node.id, "Name": settings.service, "Address": first.host, "Port": first.port,
        "Meta": {name: value for name, value in meta.items() if value},
        "Check": {
            "CheckID": _check_id(node.id), "Name": "tbms renews its registration", "Status": "passing",
            "TTL": f"{settings.ttl_seconds}s", "DeregisterCriticalServiceAfter": f"{settings.forget_seconds}s",
        },
    }  # fmt: skip


def _endpoints(node: Node) -> dict[str, str]:
    told = ((name, getattr(node, name)) for name in PORTS)
    return {name: endpoint for name, endpoint in told if endpoint is not None}


def _models(node: Node) -> str:
    return ",".join(sorted(node.models))


def _check_id(node_id: str) -> str:
    return f"tbms:{node_id}"
