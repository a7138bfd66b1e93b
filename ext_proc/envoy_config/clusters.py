"""The clusters of an edge: the nodes by protocol, each call to those that the server names, and the server.

Nodes stand in the bootstrap, or in files that Envoy watches, so that they change without a restart of it.
"""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    LoadBalancingPolicy,
    LoadBalancingPolicyPolicy,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    PathConfigSource,
    TcpKeepalive,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request.v3 import LeastRequest
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host.v3 import (
    OverrideHost,
    OverrideHostOverrideHostSource,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import NODES_KEY, NODES_NAMESPACE
from ext_proc.envoy_config.address import Place, endpoint
from ext_proc.envoy_config.cluster_options import HTTP_OPTIONS, breakers, health_checks, http1, http2
from ext_proc.envoy_config.endpoints import assignment
from ext_proc.envoy_config.server_cluster import server_cluster
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.envoy_config.text import extension, seconds
from ext_proc.errors import ConfigError
from mesh.node import Node

GRPC_CLUSTER = "models_grpc"
REST_CLUSTER = "models_rest"


def clusters(settings: EnvoySettings, server: str, nodes: Sequence[Node]) -> list[Cluster]:
    """Every cluster of the bootstrap. Raises ConfigError for an endpoint that Envoy could not use."""
    return [
        _models(GRPC_CLUSTER, settings, nodes, http2()),
        _models(REST_CLUSTER, settings, nodes, http1()),
        server_cluster(settings, server),
    ]


def discovery_responses(nodes: Sequence[Node]) -> dict[str, DiscoveryResponse]:
    """The endpoint files that Envoy watches: file name -> content."""
    return {
        f"{name}.yaml": DiscoveryResponse(resources=[Any.pack(assignment(name, _endpoints(name, nodes)))])
        for name in (GRPC_CLUSTER, REST_CLUSTER)
    }


def _models(name: str, settings: EnvoySettings, nodes: Sequence[Node], http: HttpProtocolOptions) -> Cluster:
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(0.5),
        health_checks=health_checks(settings.health_seconds),
        circuit_breakers=breakers(settings),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
        # With every node down a call fails at once, rather than being sent to a dead one.
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
        upstream_connection_options=UpstreamConnectionOptions(
            tcp_keepalive=TcpKeepalive(keepalive_probes=3, keepalive_time=10, keepalive_interval=5)
        ),
        # The list of nodes is the truth, even for a node that still answers health checks.
        ignore_health_on_host_removal=True,
        load_balancing_policy=_chosen_by_server(),
    )
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


def _chosen_by_server() -> LoadBalancingPolicy:
    """The nodes that the server named, in order; any healthy one where it named none, or none that is healthy.

    There is no header among the sources: a client's own header would be obeyed.
    """
    path = [MetadataKeyPathSegment(key=NODES_KEY)]
    override = OverrideHost(
        override_host_sources=[OverrideHostOverrideHostSource(metadata=MetadataKey(key=NODES_NAMESPACE, path=path))],
        fallback_policy=_policy("envoy.load_balancing_policies.least_request", LeastRequest()),
    )
    return _policy("envoy.load_balancing_policies.override_host", override)


def _policy(name: str, config: OverrideHost | LeastRequest) -> LoadBalancingPolicy:
    return LoadBalancingPolicy(policies=[LoadBalancingPolicyPolicy(typed_extension_config=extension(name, config))])


def _endpoints(cluster: str, nodes: Sequence[Node]) -> list[Place]:
    found = []
    for node in nodes:
        text = node.grpc if cluster == GRPC_CLUSTER else node.rest
        if text is None:
            continue
        try:
            found.append(endpoint(text))
        except ValueError as error:
            raise ConfigError(f"node {node.id!r}: {error}") from None
    return list(dict.fromkeys(found))
