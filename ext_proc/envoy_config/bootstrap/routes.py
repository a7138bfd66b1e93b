"""The virtual host of a listener: which cluster a call goes to, and the retries of its route."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    RouteMatchGrpcRouteMatchOptions,
    VirtualHost,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from ext_proc.contract import NODE_HEADER, UPSTREAM_HEADER
from ext_proc.envoy_config.bootstrap.clusters import GRPC_CLUSTER, REST_CLUSTER, far_cluster
from ext_proc.envoy_config.bootstrap.grpc_name_routes import grpc_name_routes
from ext_proc.envoy_config.parts.headers import AT_EDGES_ROUTER, AT_NODES_ROUTER, FROM_NODES
from ext_proc.envoy_config.parts.retries import GRPC_READS, REST_READS, retry_lost, retry_unprocessed, retry_unsent
from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.settings import EnvoySettings
from mesh.node import Node

NO_ROUTE = "no route leads to the node that the call was sent to"


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters that calls go to, by protocol; None where there is none for it."""

    grpc: str | None = GRPC_CLUSTER
    rest: str | None = REST_CLUSTER


_OWN = Clusters()


def edge_routes(
    settings: EnvoySettings,
    nodes: Sequence[Node],
    names_node: bool,
    reads_names: str | None = None,
    clusters: Clusters = _OWN,
) -> VirtualHost:
    """To the nodes that the server names, one after the other. With `names_node` answers tell which it was.

    A node of `nodes` that is reached by the header has routes of its own; a header that names no such node is
    answered 503, and so the call is asked elsewhere. With `reads_names`, an Envoy's version, the listener has the
    filters that read names there, for some of the calls.
    """
    steered = [*[route for node in nodes if node.is_far for route in _far_routes(node)], _nowhere()]
    routes: list[Route] = []
    again = retry_lost() if settings.repeat_lost else None
    for cluster, reads, is_grpc in ((clusters.grpc, GRPC_READS, True), (clusters.rest, REST_READS, False)):
        if cluster is None:
            continue
        if again is not None:
            routes += [routed(cluster, match, is_grpc, again) for match in reads]
        routes.append(routed(cluster, RouteMatch(prefix="/"), is_grpc))
    if reads_names is not None and clusters.grpc is not None:
        # All of the calls whose names are read only read.
        grpc = routed(clusters.grpc, RouteMatch(prefix="/"), True, again)
        named = grpc_name_routes(grpc, settings.limits.named_message_bytes, reads_names)
        # REST calls need not be asked for all that those of gRPC say: each condition costs.
        rest = [] if clusters.rest is None else _rest_reads(clusters.rest, again)
        routes = [*rest, *named, *routes]
    host = _host(settings, [*steered, *routes], retry_unprocessed(), AT_EDGES_ROUTER)
    # Tells a node whether it is the first to be asked; see `parts.replies`.
    host.include_request_attempt_count = True
    host.response_headers_to_remove = list(FROM_NODES)
    if names_node:
        host.response_headers_to_add = [
            HeaderValueOption(
                header=HeaderValue(key=UPSTREAM_HEADER, value="%UPSTREAM_REMOTE_ADDRESS%"),
                append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ]
    return host


def node_routes(settings: EnvoySettings, clusters: Clusters = _OWN) -> VirtualHost:
    """To the one model server of this machine."""
    by_protocol = ((clusters.grpc, True), (clusters.rest, False))
    match = RouteMatch(prefix="/")
    routes = [routed(cluster, match, is_grpc) for cluster, is_grpc in by_protocol if cluster is not None]
    return _host(settings, routes, retry_unsent(), AT_NODES_ROUTER)


def _far_routes(node: Node) -> list[Route]:
    """gRPC first, as everywhere: a route without that condition takes both. No other node can be tried on these."""
    routes = []
    for cluster, address in ((GRPC_CLUSTER, node.grpc), (REST_CLUSTER, node.rest)):
        if address is not None:
            named = HeaderMatcher(name=NODE_HEADER, string_match=StringMatcher(exact=node.id))
            match = RouteMatch(prefix="/", headers=[named])
            to = far_cluster(cluster, node.id)
            routes.append(routed(to, match, cluster == GRPC_CLUSTER, retry_unsent()))
    return routes


def _nowhere() -> Route:
    named = HeaderMatcher(name=NODE_HEADER, present_match=True)
    said = DirectResponseAction(status=503, body=DataSource(inline_string=NO_ROUTE))
    return Route(match=RouteMatch(prefix="/", headers=[named]), direct_response=said)


def _rest_reads(cluster: str, retries: RetryPolicy | None) -> list[Route]:
    """Of REST calls that only read those that say a content type; the others take a later route to the same end."""
    grpc = StringMatcher(prefix="application/grpc")
    says_another = [HeaderMatcher(name="content-type", string_match=grpc, invert_match=True)]
    return [routed(cluster, replace(match, headers=says_another), False, retries) for match in REST_READS]


def _host(settings: EnvoySettings, routes: list[Route], retries: RetryPolicy, removed: tuple[str, ...]) -> VirtualHost:
    return VirtualHost(
        name="models",
        domains=["*"],
        routes=routes,
        request_headers_to_remove=list(removed),
        retry_policy=retries,
        request_body_buffer_limit=settings.limits.body_buffer_bytes,
    )


def routed(cluster: str, match: RouteMatch, is_grpc: bool, retries: RetryPolicy | None = None) -> Route:
    """A route to a cluster: gRPC calls only, or whatever matches; without `retries` its host's policy holds."""
    match = replace(match, grpc=RouteMatchGrpcRouteMatchOptions()) if is_grpc else match
    # Time limits are the client's and the server's business: no timeout of Envoy's own.
    return Route(match=match, route=RouteAction(cluster=cluster, timeout=seconds(0), retry_policy=retries))
