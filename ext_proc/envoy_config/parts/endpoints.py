"""Endpoints as Envoy's types: one address, the endpoints of a cluster, and how Envoy finds them."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.cluster.v3 import ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import Address as EnvoyAddress
from envoy_data_plane.envoy.config.core.v3 import Pipe, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from ext_proc.errors import ConfigError
from mesh.address import Address, parse_address


def configured_address(setting: str, text: str) -> Address:
    """The address that a setting gives. Raises ConfigError that names the setting, if Envoy could not use it."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigError(f"{setting}: {error}") from None


def discovery(address: Address) -> ClusterDiscoveryType:
    """How Envoy finds an endpoint: a host's name is looked up again and again, as its address may change."""
    is_name = not address.path and address.ip is None
    return ClusterDiscoveryType.STRICT_DNS if is_name else ClusterDiscoveryType.STATIC


def envoy_address(address: Address, mode: int = 0) -> EnvoyAddress:
    """An address as Envoy's type: a pipe for a Unix socket, a socket address for the rest.

    `mode` are the permissions of a Unix socket that Envoy listens on; 0: those of its umask.
    """
    if address.path:
        return EnvoyAddress(pipe=Pipe(path=address.path, mode=mode))
    return EnvoyAddress(socket_address=SocketAddress(address=address.host, port_value=address.port))


def assignment(cluster: str, addresses: Iterable[Address]) -> ClusterLoadAssignment:
    """The endpoints of a cluster, in one locality; none at all for no addresses."""
    hosts = [LbEndpoint(endpoint=Endpoint(address=envoy_address(address))) for address in addresses]
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=hosts)] if hosts else []
    )
