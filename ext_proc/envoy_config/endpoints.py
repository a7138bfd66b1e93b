"""Places as Envoy's types: one address, the endpoints of a cluster, and how Envoy finds them."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.cluster.v3 import ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import Address, Pipe, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from ext_proc.envoy_config.address import Place, place
from ext_proc.errors import ConfigError


def given(setting: str, text: str) -> Place:
    """The place that a setting names. Raises ConfigError for an address that Envoy could not use."""
    try:
        return place(text)
    except ValueError as error:
        raise ConfigError(f"{setting}: {error}") from None


def discovery(where: Place) -> ClusterDiscoveryType:
    """A host's name is looked up again and again, as its address may change."""
    is_name = not where.path and where.ip is None
    return ClusterDiscoveryType.STRICT_DNS if is_name else ClusterDiscoveryType.STATIC


def address(where: Place) -> Address:
    """A place as Envoy's type."""
    if where.path:
        return Address(pipe=Pipe(path=where.path))
    return Address(socket_address=SocketAddress(address=where.host, port_value=where.port))


def assignment(cluster: str, places: Iterable[Place]) -> ClusterLoadAssignment:
    """The endpoints of a cluster."""
    hosts = [LbEndpoint(endpoint=Endpoint(address=address(where))) for where in places]
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=hosts)] if hosts else []
    )
