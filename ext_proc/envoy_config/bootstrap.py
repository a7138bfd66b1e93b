"""The whole bootstrap."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Node as EnvoyNode
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import DownstreamConnectionsConfig
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.address import place
from ext_proc.envoy_config.clusters import clusters
from ext_proc.envoy_config.endpoints import address
from ext_proc.envoy_config.inbound import ModelServer, node_clusters, node_listeners
from ext_proc.envoy_config.listeners import listeners
from ext_proc.envoy_config.settings import EnvoySettings
from mesh.node import Node


def bootstrap(settings: EnvoySettings, *, version: str, server: str, nodes: Sequence[Node]) -> Bootstrap:
    """An edge's bootstrap, as a typed message. Raises ConfigError as `render` does."""
    return _whole(settings, listeners(settings, version), clusters(settings, server, nodes))


def node_bootstrap(settings: EnvoySettings, *, version: str, server: str, models: ModelServer) -> Bootstrap:
    """A node's bootstrap, as a typed message. Raises ConfigError as `render_node` does."""
    return _whole(settings, node_listeners(settings, version, models), node_clusters(settings, server, models))


def _whole(settings: EnvoySettings, listening: list[Listener], upstream: list[Cluster]) -> Bootstrap:
    return Bootstrap(
        node=EnvoyNode(id="tbms", cluster="tbms"),
        admin=Admin(address=address(place(settings.admin))),
        static_resources=BootstrapStaticResources(listeners=listening, clusters=upstream),
        overload_manager=OverloadManager(resource_monitors=[_connections(settings.limits.connections)]),
    )


def _connections(limit: int) -> ResourceMonitor:
    config = DownstreamConnectionsConfig(max_active_downstream_connections=limit)
    return ResourceMonitor(
        name="envoy.resource_monitors.global_downstream_max_connections", typed_config=Any.pack(config)
    )
