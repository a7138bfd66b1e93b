"""How many calls a tbms server has decided about."""

import re

import aiohttp

_CALLS = re.compile(r"^tbms_calls_total\{[^}]*\} (\S+)$", re.MULTILINE)


async def decided(admin: str) -> float:
    """The count of the server whose admin port is at that URL, since it started."""
    async with aiohttp.ClientSession() as http, http.get(f"{admin}/metrics") as reply:
        return sum(map(float, _CALLS.findall(await reply.text())))
