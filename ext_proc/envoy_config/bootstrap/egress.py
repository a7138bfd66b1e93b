"""The egress on a Unix socket, where nobody but the server calls: for a bootstrap, and for a sidecar of a mesh."""

from envoy_data_plane.envoy.config.listener.v3 import Listener

from ext_proc.envoy_config.bootstrap.listeners import listener
from ext_proc.envoy_config.bootstrap.routes import Clusters, edge_routes, node_routes
from ext_proc.envoy_config.parts.headers import FROM_EDGES, FROM_SERVER
from ext_proc.envoy_config.parts.hop import nodes_of_hop_mark, retries_of_server
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.settings import EnvoySettings


def candidates_listener(settings: EnvoySettings, clusters: Clusters) -> Listener:
    """An edge's: candidates and batches of its own go out, by others' clusters, to the nodes that the server says."""
    routes = edge_routes(settings, names_node=True, clusters=clusters)
    filters = [nodes_of_hop_mark(), retries_of_server()]
    return listener(
        "egress",
        settings.egress,
        settings,
        filters,
        FROM_SERVER,
        routes,
        local_replies(),
        settings.limits.longest_tloc_seconds,
        others_clusters=True,
    )


def batches_listener(settings: EnvoySettings, clusters: Clusters, hold_seconds: float) -> Listener:
    """A node's: batches go to the model server, whose clusters are others'."""
    return listener(
        "egress",
        settings.egress,
        settings,
        [],
        FROM_EDGES,
        node_routes(settings, clusters),
        local_replies(ask_elsewhere=True),
        max(settings.limits.longest_tloc_seconds, hold_seconds),
        others_clusters=True,
    )
