"""The whole bootstrap."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.core.v3 import Node as EnvoyNode
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import DownstreamConnectionsConfig
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.address import place
from ext_proc.envoy_config.clusters import address, clusters
from ext_proc.envoy_config.listeners import listeners
from ext_proc.envoy_config.settings import EnvoySettings
from mesh.node import Node


def bootstrap(settings: EnvoySettings, *, version: str, server: str, nodes: Sequence[Node]) -> Bootstrap:
    """The bootstrap, as a typed message. Raises ConfigError as `render` does."""
    return Bootstrap(
        node=EnvoyNode(id="tbms", cluster="tbms"),
        admin=Admin(address=address(place(settings.admin))),
        static_resources=BootstrapStaticResources(
            listeners=listeners(settings, version), clusters=clusters(settings, server, nodes)
        ),
        overload_manager=OverloadManager(resource_monitors=[_connections(settings.limits.connections)]),
    )


def _connections(limit: int) -> ResourceMonitor:
    config = DownstreamConnectionsConfig(max_active_downstream_connections=limit)
    return ResourceMonitor(
        name="envoy.resource_monitors.global_downstream_max_connections", typed_config=Any.pack(config)
    )
