"""A node's key in etcd, under a lease: who dies without a word is gone when the lease ends."""

import json
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from pydantic import Field

from mesh.discovery.etcd_client import EtcdConnection, b64, connected, integer, mapping
from mesh.errors import MeshError
from mesh.json_http import JsonHttp
from mesh.node import Node


class EtcdRegistrationSettings(EtcdConnection):
    """Registration in etcd."""

    kind: Literal["etcd"]
    prefix: str = Field("/tbms/nodes/", min_length=1, max_length=1024, description="As the edges' `discovery` has it.")
    lease_seconds: int = Field(
        6, ge=3, le=3600, description="How long the node is believed to be there once nobody hears of it."
    )


class EtcdEntry:
    """See `Entry`."""

    service = "etcd"

    def __init__(self, settings: EtcdRegistrationSettings, node: Node) -> None:
        self._settings = settings
        self._key = b64(settings.prefix.encode() + node.id.encode())
        self._value = b64(json.dumps(_document(node)).encode())
        self._lease: int | None = None
        self.length = float(settings.lease_seconds)

    def connected(self, attempt: int) -> AbstractAsyncContextManager[JsonHttp]:
        """See `Entry`."""
        return connected(self._settings, attempt)

    async def write(self, http: JsonHttp) -> None:
        """See `Entry`."""
        grant = mapping(
            (await http.send("POST", "/v3/lease/grant", {"TTL": str(self._settings.lease_seconds)})).document
        )
        lease = integer(grant.get("ID"))
        if lease <= 0:
            raise MeshError("etcd: it granted no lease")
        self._lease = lease
        await http.send("POST", "/v3/kv/put", {"key": self._key, "value": self._value, "lease": str(lease)})

    async def renewed(self, http: JsonHttp) -> bool:
        """See `Entry`. To etcd a lease that ended is no error: its TTL is 0."""
        if self._lease is None:
            return False
        reply = mapping((await http.send("POST", "/v3/lease/keepalive", {"ID": str(self._lease)})).document)
        if integer(mapping(reply.get("result") or {}).get("TTL")) <= 0:
            return False
        found = mapping((await http.send("POST", "/v3/kv/range", {"key": self._key})).document)
        entries: list[Any] = found.get("kvs") or []
        return any(integer(mapping(entry).get("lease")) == self._lease for entry in entries)

    async def remove(self, http: JsonHttp) -> None:
        """See `Entry`. Ends the lease, which deletes the key: not one that somebody else has written since."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await http.send("POST", "/v3/lease/revoke", {"ID": str(lease)})


def _document(node: Node) -> dict[str, Any]:
    fields: dict[str, Any] = {"grpc": node.grpc, "rest": node.rest, "residency": node.residency, "zone": node.zone}
    if node.is_far:
        fields |= {"reached_by": node.reached_by, "speaks": sorted(node.speaks)}
    return {**fields, "weight": node.weight, "models": sorted(node.models)}
