"""What Envoy has made of the map, as its admin interface tells."""

from dataclasses import dataclass

import aiohttp

from ext_proc.contract import KNOWN_FILTER
from mesh.errors import MeshError
from mesh.json_http import JsonHttp

_SECONDS = 5.0
_MOST_BYTES = 65_536
_SCOPE = f"extension_config_discovery.http_filter.{KNOWN_FILTER}."
_ACTIVE = "http.{}.downstream_rq_active"


class EnvoyAway(Exception):
    """Envoy's admin interface did not answer, or not as Envoy does; the message is one sentence.

    `refused`: nobody listens there.
    """

    def __init__(self, words: str, refused: bool = False) -> None:
        super().__init__(words)
        self.refused = refused


class NoFilter(EnvoyAway):
    """Envoy has no filter that reads a map: it was configured without one, or has not read its listeners yet."""

    def __init__(self) -> None:
        super().__init__("It has no filter that reads the map: its configuration was rendered without one.")


@dataclass(frozen=True, slots=True)
class Taken:
    """The version of the file that Envoy has taken in, and how many files were refused since it started."""

    version: str
    refused: int
    everywhere: bool = True
    """Whether all of its workers go by the last file that was taken."""
    active: int | None = None
    """Calls at the listener that was asked about; None where none was, and where Envoy has none of that name."""


async def ask_envoy(admin: str, listener: str | None = None) -> Taken:
    """Asks the admin interface at `ip:port` or `unix:/path`, about the map and a listener.

    Raises EnvoyAway, and NoFilter of an Envoy that has no map.
    """
    of_map = f"{_SCOPE}(version_text|update_rejected|update_success|config_reload)"
    names = [of_map] if listener is None else [of_map, _ACTIVE.format(listener)]
    asked = {"format": "json", "filter": f"^({'|'.join(names)})$".replace(".", "[.]")}
    try:
        async with JsonHttp.of_envoy(admin, _SECONDS, _MOST_BYTES) as http:
            return _read((await http.get("/stats", asked)).document, listener)
    except MeshError as error:
        raise EnvoyAway(str(error), _is_refusal(error.__context__)) from None
    except (KeyError, TypeError, ValueError):
        raise EnvoyAway("It does not answer as Envoy does.") from None


def _read(document: dict[str, list[dict[str, object]]], listener: str | None) -> Taken:
    stats = {str(stat["name"]): str(stat["value"]) for stat in document["stats"] if "name" in stat}
    taken, reloads = (int(stats.get(_SCOPE + name, 0)) for name in ("update_success", "config_reload"))
    active = None if listener is None else stats.get(_ACTIVE.format(listener))
    if _SCOPE + "version_text" not in stats:
        raise NoFilter
    # Envoy counts a file as taken when its main thread has read it, and as a reload once each worker has it.
    version, refused = stats[_SCOPE + "version_text"], int(stats[_SCOPE + "update_rejected"])
    return Taken(version, refused, reloads >= taken, None if active is None else int(active))


def _is_refusal(cause: BaseException | None) -> bool:
    nobody = (ConnectionRefusedError, FileNotFoundError)
    return isinstance(cause, aiohttp.ClientConnectorError) and isinstance(cause.os_error, nobody)
