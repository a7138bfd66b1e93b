"""The clusters of a bootstrap: model servers by protocol, and the external processor.

An edge's nodes stand in the bootstrap, or in files that Envoy watches, so that they change without a restart of it.
"""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    PathConfigSource,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.address import endpoint
from ext_proc.envoy_config.bootstrap.http1 import http1
from ext_proc.envoy_config.parts.cluster_options import (
    CALLS_A_CONNECTION,
    HTTP_OPTIONS,
    breakers,
    health_checks,
    http2,
    notice_lost_hosts,
)
from ext_proc.envoy_config.parts.endpoints import assignment, configured_address, discovery
from ext_proc.envoy_config.parts.override_host import override_host
from ext_proc.envoy_config.parts.server_cluster import server_cluster
from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.errors import ConfigError
from mesh.address import Address
from mesh.node import Node

GRPC_CLUSTER = "models_grpc"
REST_CLUSTER = "models_rest"
_HOST = '{"endpoint": {"address": {"socket_address": {"address": "%s", "port_value": %d}}}}'
"""One line of an endpoint file: an IP address, in which nothing has to be escaped, and a port."""
_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def edge_clusters(settings: EnvoySettings, server: str, nodes: Sequence[Node], version: str) -> list[Cluster]:
    """The nodes by protocol, and the server. Raises ConfigError for an endpoint that Envoy could not use."""
    return [
        _nodes(GRPC_CLUSTER, settings, nodes, http2(most_calls=CALLS_A_CONNECTION)),
        _nodes(REST_CLUSTER, settings, nodes, http1()),
        *[cluster for node in nodes if node.is_far for cluster in _far(settings, node)],
        server_cluster(server, settings.server_tls, settings.limits.in_flight, version),
    ]


def far_cluster(cluster: str, node_id: str) -> str:
    """The name of the cluster of one node of another zone, for calls that otherwise go to `cluster`."""
    return f"{cluster}@{node_id}"


def node_clusters(settings: EnvoySettings, server: str, version: str, *, grpc: str, rest: str) -> list[Cluster]:
    """The model server by protocol, and the server. Raises ConfigError for an address that Envoy could not use."""
    return [
        _model_server(GRPC_CLUSTER, "node.cache.loader.address", grpc, settings, http2()),
        _model_server(REST_CLUSTER, "node.rest", rest, settings, http1()),
        server_cluster(server, settings.server_tls, settings.limits.in_flight, version),
    ]


def endpoint_files(nodes: Sequence[Node]) -> dict[str, str]:
    """The endpoint files that Envoy watches: file name -> text. Raises ConfigError as `edge_clusters` does.

    Each is a DiscoveryResponse, written as JSON, which YAML contains, and by hand: by way of the typed messages and of
    YAML a thousand nodes would take seconds, and these files are written at every change of the nodes.
    """
    return {f"{name}.yaml": _response(name, _endpoints(name, nodes)) for name in (GRPC_CLUSTER, REST_CLUSTER)}


def _response(cluster: str, addresses: Sequence[Address]) -> str:
    lines = ",\n".join([_HOST % (address.host, address.port) for address in addresses])
    endpoints = f'[{{"lb_endpoints": [\n{lines}\n]}}]' if lines else "[]"
    head = f'"@type": "{_ASSIGNMENT}", "cluster_name": "{cluster}"'
    return f'{{"resources": [{{{head}, "endpoints": {endpoints}}}]}}\n'


def _nodes(name: str, settings: EnvoySettings, nodes: Sequence[Node], http: HttpProtocolOptions) -> Cluster:
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(0.5),
        health_checks=health_checks(settings.health_seconds),
        circuit_breakers=breakers(settings.limits.in_flight),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
        # With every node down a call fails at once, rather than being sent to a dead one.
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
        # The list of nodes is the truth, even for a node that still answers health checks.
        ignore_health_on_host_removal=True,
        load_balancing_policy=override_host(),
    )
    notice_lost_hosts(cluster, by_http2=name == GRPC_CLUSTER)
    if settings.endpoints_dir is None:
        cluster.load_assignment = assignment(name, _endpoints(name, nodes))
        return cluster
    cluster.type = ClusterDiscoveryType.EDS
    folder = settings.endpoints_dir.rstrip("/")
    source = PathConfigSource(path=f"{folder}/{name}.yaml", watched_directory=WatchedDirectory(path=folder))
    cluster.eds_cluster_config = ClusterEdsClusterConfig(
        eds_config=ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)
    )
    return cluster


def _far(settings: EnvoySettings, node: Node) -> list[Cluster]:
    """The clusters of one node of another zone. What listens at its addresses may be an ingress that stands for it.

    No health check: that an ingress takes connections says nothing of the node.
    """
    clusters = []
    for cluster, text, http in (
        (GRPC_CLUSTER, node.grpc, http2(most_calls=CALLS_A_CONNECTION)),
        (REST_CLUSTER, node.rest, http1()),
    ):
        if text is not None:
            name = far_cluster(cluster, node.id)
            far = Cluster(
                name=name,
                type=ClusterDiscoveryType.STATIC,
                connect_timeout=seconds(1.0),
                load_assignment=assignment(name, [_address(node, text)]),
                circuit_breakers=breakers(settings.limits.in_flight),
                typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
            )
            notice_lost_hosts(far, by_http2=cluster == GRPC_CLUSTER)
            clusters.append(far)
    return clusters


def _endpoints(cluster: str, nodes: Sequence[Node]) -> list[Address]:
    found = {}
    for node in nodes:
        text = node.grpc if cluster == GRPC_CLUSTER else node.rest
        if text is not None and text not in found and not node.is_far:
            found[text] = _address(node, text)
    return list(found.values())


def _address(node: Node, text: str) -> Address:
    try:
        return endpoint(text)
    except ValueError as error:
        raise ConfigError(f"node {node.id!r}: {error}") from None


def _model_server(name: str, setting: str, text: str, settings: EnvoySettings, http: HttpProtocolOptions) -> Cluster:
    address = configured_address(setting, text)
    return Cluster(
        name=name,
        type=discovery(address),
        connect_timeout=seconds(0.5),
        load_assignment=assignment(name, [address]),
        # No health check: there is nowhere else to go, and a server that listens again must be found at once.
        circuit_breakers=breakers(settings.limits.in_flight),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
    )
