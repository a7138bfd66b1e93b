"""What Envoy has made of the map, as its admin interface tells."""

from dataclasses import dataclass

from ext_proc.contract import KNOWN_FILTER
from mesh.errors import MeshError
from mesh.json_http import JsonHttp

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
    asked = {"format": "json", "filter": f"{_SCOPE.replace('.', '[.]')}(version_text|update_rejected)"}
    try:
        async with JsonHttp.of_envoy(admin, _SECONDS, _MOST_BYTES) as http:
            return _read((await http.get("/stats", asked)).document)
    except MeshError as error:
        raise EnvoyAway(str(error)) from None
    except (KeyError, TypeError, ValueError):
        raise EnvoyAway("It does not tell of a map.") from None


def _read(document: dict[str, list[dict[str, object]]]) -> Taken:
    stats = {stat["name"]: stat["value"] for stat in document["stats"] if "name" in stat}
    return Taken(str(stats[_SCOPE + "version_text"]), int(str(stats[_SCOPE + "update_rejected"])))
