"""A node's key in etcd, under a lease: who dies without a word is gone when the lease ends."""

import asyncio
import json
import logging
import random
from typing import Any, Literal

from pydantic import Field

from mesh.back_off import RetryDelays
from mesh.discovery.etcd_client import EtcdConnection, b64, connected, integer, mapping
from mesh.errors import MeshError
from mesh.json_http import JsonHttp
from mesh.node import Node

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # seconds until a failed registration is tried again


class EtcdRegistrationSettings(EtcdConnection):
    """Registration in etcd."""

    kind: Literal["etcd"]
    prefix: str = Field("/tbms/nodes/", min_length=1, max_length=1024, description="As the edges' `discovery` has it.")
    lease_seconds: int = Field(
        6, ge=3, le=3600, description="How long the node is believed to be there once nobody hears of it."
    )


class EtcdRegistration:
    """See `Registration`. The lease is renewed three times within its length; one that was lost is taken anew."""

    def __init__(self, settings: EtcdRegistrationSettings, node: Node) -> None:
        self._settings = settings
        self._key = b64(settings.prefix.encode() + node.id.encode())
        self._value = b64(json.dumps(_document(node)).encode())
        self._lease: int | None = None
        self._attempt = 0

    async def run(self) -> None:
        """See `Registration`."""
        delays = RetryDelays(_FIRST_PAUSE, _LONGEST_PAUSE, random.random)
        while True:
            try:
                async with connected(self._settings, self._attempt) as http:
                    while True:
                        if not await self._renewed(http):
                            await self._put(http)
                            logger.info("registered", extra={"service": "etcd"})
                        delays.reset()
                        await asyncio.sleep(self._settings.lease_seconds / 3)
            except (OSError, TimeoutError, MeshError) as error:
                self._attempt += 1
                pause = next(delays)
                logger.warning(
                    "cannot register", extra={"service": "etcd", "cause": str(error), "retry_seconds": round(pause, 1)}
                )
                await asyncio.sleep(pause)

    async def withdraw(self) -> None:
        """See `Registration`. Ends the lease, which deletes the key: not one that somebody else has written since."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            async with connected(self._settings, self._attempt) as http:
                await http.send("POST", "/v3/lease/revoke", {"ID": str(lease)})
                logger.info("withdrawn", extra={"service": "etcd"})
        except (OSError, TimeoutError, MeshError) as error:
            logger.warning("cannot withdraw", extra={"service": "etcd", "cause": str(error)})

    async def _renewed(self, http: JsonHttp) -> bool:
        """Whether the lease lives on and the key is ours. To etcd a lease that ended is no error: its TTL is 0."""
        if self._lease is None:
            return False
        reply = mapping((await http.send("POST", "/v3/lease/keepalive", {"ID": str(self._lease)})).document)
        if integer(mapping(reply.get("result") or {}).get("TTL")) <= 0:
            return False
        found = mapping((await http.send("POST", "/v3/kv/range", {"key": self._key})).document)
        entries: list[Any] = found.get("kvs") or []
        return any(integer(mapping(entry).get("lease")) == self._lease for entry in entries)

    async def _put(self, http: JsonHttp) -> None:
        grant = mapping(
            (await http.send("POST", "/v3/lease/grant", {"TTL": str(self._settings.lease_seconds)})).document
        )
        lease = integer(grant.get("ID"))
        if lease <= 0:
            raise MeshError("etcd: it granted no lease")
        self._lease = lease
        await http.send("POST", "/v3/kv/put", {"key": self._key, "value": self._value, "lease": str(lease)})


def _document(node: Node) -> dict[str, Any]:
    fields: dict[str, Any] = {"grpc": node.grpc, "rest": node.rest, "residency": node.residency, "zone": node.zone}
    if node.is_far:
        fields |= {"reached_by": node.reached_by, "speaks": sorted(node.speaks)}
    return {**fields, "weight": node.weight, "models": sorted(node.models)}
