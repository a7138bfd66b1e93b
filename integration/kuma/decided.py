"""How many calls a tbms server has been asked about."""

import re

import aiohttp

# Known calls are counted, too, once Envoy's log has told of them: nobody was asked about those.
_CALLS = re.compile(r'^tbms_calls_total\{(?![^}]*outcome="known")[^}]*\} (\S+)$', re.MULTILINE)


async def decided(admin: str) -> float:
    """The count of the server whose admin port is at that URL, since it started."""
    async with aiohttp.ClientSession() as http, http.get(f"{admin}/metrics") as reply:
        return sum(map(float, _CALLS.findall(await reply.text())))
