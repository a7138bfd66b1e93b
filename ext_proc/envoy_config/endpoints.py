"""Places as Envoy's types: one address, and the endpoints of a cluster."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import Address, Pipe, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from ext_proc.envoy_config.address import Place


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
