"""What Envoy has made of the map, as its admin interface tells."""

import json
from dataclasses import dataclass

import aiohttp

from ext_proc.contract import KNOWN_FILTER
from mesh.address import parse_address

_SECONDS = 5.0
_MOST_BYTES = 65_536
_SCOPE = f"extension_config_discovery.http_filter.{KNOWN_FILTER}."


class EnvoyAway(Exception):
    """Envoy's admin interface did not answer, or knows of no map; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The version of the file that is in force, and how many files were refused since Envoy started."""

    version: str
    refused: int


async def ask_envoy(admin: str) -> Taken:
    """Asks the admin interface at `ip:port` or `unix:/path`. Raises EnvoyAway."""
    address = parse_address(admin)
    connector = aiohttp.UnixConnector(address.path) if address.path else aiohttp.TCPConnector()
    host = "envoy" if address.path else str(address)
    url = f"http://{host}/stats?format=json&filter={_SCOPE.replace('.', '[.]')}(version_text|update_rejected)"
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http, http.get(url) as reply:
            body = await reply.content.read(_MOST_BYTES)
        return _read(json.loads(body))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise EnvoyAway(str(error) or "It took too long.") from None
    except (KeyError, TypeError, ValueError):
        raise EnvoyAway("It does not tell of a map.") from None


def _read(document: dict[str, list[dict[str, object]]]) -> Taken:
    stats = {stat["name"]: stat["value"] for stat in document["stats"] if "name" in stat}
    return Taken(str(stats[_SCOPE + "version_text"]), int(str(stats[_SCOPE + "update_rejected"])))
