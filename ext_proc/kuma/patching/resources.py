"""The xDS resources of one proxy as a control plane shows them, and which part of Kuma each of them comes from.

`GET /meshes/{mesh}/dataplanes/{name}/_config` gives them as type -> name -> resource, without the origin that patches
match by. It is told from the traffic direction of listeners, from names, and, for clusters, from who sends calls there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener

from ext_proc.kuma.patching.envoy_types import EnvoyTypeError, Json, canonical, message_type

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
MANAGER = "envoy.filters.network.http_connection_manager"
MESSAGES = {CLUSTER: Cluster, LISTENER: Listener}

# Origins (kumahq/kuma, pkg/xds/generator/metadata/metadata.go).
INBOUND, OUTBOUND, TRANSPARENT, GATEWAY, PATCHED = (
    "inbound",
    "outbound",
    "transparent",
    "gateway",
    "proxy-template-modifications",
)
_TRANSPARENT = re.compile(r"(inbound|outbound):passthrough:ipv[46]|self_transparentproxy_.*")
# The listener of a builtin gateway: its name, protocol and port. Its direction is that of no sidecar's.
_GATEWAY = re.compile(r".+:(HTTP|HTTPS|TCP|TLS):\d+(:.*)?")
_OTHERS = {"kuma:dns": "dns", "kuma:envoy:admin": "admin", "kuma:metrics:prometheus": "prometheus"}
_INBOUND_CLUSTER = re.compile(r"localhost:\d+|self_inbound_.*")
_DIRECTIONS = {"INBOUND": INBOUND, "OUTBOUND": OUTBOUND}


@dataclass(slots=True)
class Resource:
    """One resource: its name, its origin ("" where it cannot be told), and itself as canonical JSON."""

    name: str
    origin: str
    value: dict[str, Json]


class Resources:
    """The resources of one proxy by type URL and name, to be patched in place."""

    def __init__(self, document: Json) -> None:
        """Reads what `_config` answers, or the `xds` in it. Raises EnvoyTypeError that names the resource."""
        if isinstance(document, Mapping) and isinstance(document.get("xds"), Mapping):
            document = document["xds"]
        if not isinstance(document, Mapping) or not all(isinstance(each, Mapping) for each in document.values()):
            raise EnvoyTypeError("", "these are no xDS resources: type -> name -> resource is expected")
        self._by_type: dict[str, dict[str, Resource]] = {}
        for url, named in document.items():
            if not str(url).startswith("type.googleapis.com/"):
                raise EnvoyTypeError(str(url), "the URL of a type is expected, such as " + CLUSTER)
            message = message_type(url)
            values = {str(name): canonical(message, value, str(name)) for name, value in named.items()}
            self._by_type[url] = {name: Resource(name, "", value) for name, value in values.items()}
        self._tell_origins()

    @property
    def clusters(self) -> dict[str, Resource]:
        """Clusters by name."""
        return self._by_type.setdefault(CLUSTER, {})

    @property
    def listeners(self) -> dict[str, Resource]:
        """Listeners by name."""
        return self._by_type.setdefault(LISTENER, {})

    def document(self) -> dict[str, dict[str, Json]]:
        """Type -> name -> resource, as it was read, in canonical JSON; types without resources are left out."""
        every = self._by_type.items()
        return {url: {name: each.value for name, each in named.items()} for url, named in every if named}

    def _tell_origins(self) -> None:
        callers: dict[str, str] = {}
        for listener in self.listeners.values():
            listener.origin = _origin_of_listener(listener)
            for name in called(listener.value):
                callers.setdefault(name, listener.origin)
        for cluster in self.clusters.values():
            cluster.origin = _origin_of_cluster(cluster, callers)


def managers(listener: Mapping[str, Any]) -> Iterator[dict[str, Json]]:
    """The configurations of a listener's HTTP connection managers, one for each filter chain; change them in place."""
    for chain in listener.get("filterChains", ()):
        for each in chain.get("filters", ()):
            if each.get("name") == MANAGER and "typedConfig" in each:
                yield each["typedConfig"]


def tags_of(listener: Mapping[str, Any]) -> dict[str, str]:
    """The tags that Kuma has given a listener."""
    tags = listener.get("metadata", {}).get("filterMetadata", {}).get("io.kuma.tags", {})
    return {name: value for name, value in tags.items() if isinstance(value, str)}


def _origin_of_listener(listener: Resource) -> str:
    if _TRANSPARENT.fullmatch(listener.name):
        return TRANSPARENT
    if listener.name in _OTHERS:
        return _OTHERS[listener.name]
    if _GATEWAY.fullmatch(listener.name):
        return GATEWAY
    return _DIRECTIONS.get(listener.value.get("trafficDirection", ""), "")


def _origin_of_cluster(cluster: Resource, callers: Mapping[str, str]) -> str:
    if _TRANSPARENT.fullmatch(cluster.name):
        return TRANSPARENT
    if _INBOUND_CLUSTER.fullmatch(cluster.name):
        return INBOUND
    if found := callers.get(cluster.name):
        return found
    return OUTBOUND if cluster.value.get("type") == "EDS" else ""


def called(value: Json) -> Iterator[str]:
    """The clusters that something inside a listener names: routes, weighted ones, TCP proxies."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name == "cluster" and isinstance(each, str):
                yield each
            elif name == "weightedClusters" and isinstance(each, Mapping):
                yield from (one["name"] for one in each.get("clusters", ()) if "name" in one)
            else:
                yield from called(each)
    elif isinstance(value, list):
        for each in value:
            yield from called(each)
