"""Envoy's own count of the calls it sent to each node."""

from collections import Counter

import aiohttp


async def calls_by_address(envoy_admin: str) -> Counter[str]:
    """Calls sent to each `ip:port` since Envoy started, retries included."""
    async with aiohttp.ClientSession() as http, http.get(f"{envoy_admin}/clusters?format=json") as reply:
        document = await reply.json(content_type=None)
    counts: Counter[str] = Counter()
    for cluster in document["cluster_statuses"]:
        for host in cluster.get("host_statuses", []):
            socket = host["address"].get("socket_address")
            if socket is None:
                continue
            # Envoy writes 64-bit numbers as text and leaves out zero.
            sent = sum(int(stat.get("value", 0)) for stat in host.get("stats", []) if stat["name"] == "rq_total")
            counts[f"{socket['address']}:{socket['port_value']}"] += sent
    return counts
