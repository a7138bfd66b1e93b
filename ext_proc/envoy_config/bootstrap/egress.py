"""The egress on a Unix socket, where nobody but the server calls, in a sidecar of a mesh, whose clusters it uses."""

from collections.abc import Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, Route, RouteMatch
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from ext_proc.contract import NODE_HEADER
from ext_proc.envoy_config.bootstrap.listeners import listener
from ext_proc.envoy_config.bootstrap.routes import Clusters, edge_routes, node_routes, routed
from ext_proc.envoy_config.parts.headers import FROM_EDGES
from ext_proc.envoy_config.parts.hop import nodes_of_hop_mark, retries_of_server
from ext_proc.envoy_config.parts.replies import local_replies
from ext_proc.envoy_config.parts.retries import retry_unsent
from ext_proc.envoy_config.settings import EnvoySettings


@dataclass(frozen=True, slots=True)
class FarNode:
    """A node of another zone, which NODE_HEADER names by its id, and the clusters that lead to it alone."""

    id: str
    clusters: Clusters


def candidates_listener(settings: EnvoySettings, clusters: Clusters, far: Sequence[FarNode] = ()) -> Listener:
    """An edge's: candidates and batches of its own go out to the nodes that the server says, `far` ones among them."""
    host = edge_routes(settings, (), names_node=True, clusters=clusters)
    host.routes[:0] = [route for node in far for route in _to(node)]
    return listener(
        "egress",
        settings.egress,
        settings,
        [nodes_of_hop_mark(), retries_of_server()],
        (),
        host,
        local_replies(),
        settings.limits.longest_tloc_seconds,
        others_clusters=True,
    )


def batches_listener(settings: EnvoySettings, clusters: Clusters, hold_seconds: float) -> Listener:
    """A node's: batches go to its model server."""
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


def _to(node: FarNode) -> list[Route]:
    """gRPC first, as everywhere: a route without that condition takes both. No other node can be tried on these."""
    named = HeaderMatcher(name=NODE_HEADER, string_match=StringMatcher(exact=node.id))
    match = RouteMatch(prefix="/", headers=[named])
    by_protocol = ((node.clusters.grpc, True), (node.clusters.rest, False))
    return [routed(cluster, match, is_grpc, retry_unsent()) for cluster, is_grpc in by_protocol if cluster is not None]
