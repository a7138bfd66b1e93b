"""How many calls an Envoy has in hand."""

import httpx

from integration.stack.sidecar import Sidecar


async def in_envoy(edge: Sidecar) -> int:
    """Calls of clients that have come to the Envoy and have not ended."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{edge.envoy_admin}/stats?filter=http[.]clients[.]downstream_rq_active")).text
    return sum(int(line.rpartition(": ")[2]) for line in text.splitlines())
