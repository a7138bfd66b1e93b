"""One number of a process's /metrics."""

import re

import httpx


async def metric(admin: str, name: str) -> float:
    """The value of a metric without labels, from the admin port at that URL."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{admin}/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.M)
    assert found is not None, name
    return float(found[1])
