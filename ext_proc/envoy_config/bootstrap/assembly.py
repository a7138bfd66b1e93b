"""The bootstrap message: the admin interface and the overload manager around listeners and clusters."""

from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Node as EnvoyNode
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import DownstreamConnectionsConfig
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.bootstrap.tracing import collector_cluster
from ext_proc.envoy_config.parts.endpoints import envoy_address
from ext_proc.envoy_config.settings import EnvoySettings
from mesh.address import parse_address


def assembled(settings: EnvoySettings, listeners: list[Listener], clusters: list[Cluster]) -> Bootstrap:
    """A bootstrap of static resources: these listeners and clusters."""
    if settings.tracing is not None:
        clusters = [*clusters, collector_cluster(settings.tracing)]
    return Bootstrap(
        node=EnvoyNode(id="tbms", cluster="tbms"),
        admin=Admin(address=envoy_address(parse_address(settings.admin))),
        static_resources=BootstrapStaticResources(listeners=listeners, clusters=clusters),
        overload_manager=OverloadManager(resource_monitors=[_connections(settings.limits.connections)]),
    )


def _connections(limit: int) -> ResourceMonitor:
    config = DownstreamConnectionsConfig(max_active_downstream_connections=limit)
    return ResourceMonitor(
        name="envoy.resource_monitors.global_downstream_max_connections", typed_config=Any.pack(config)
    )
