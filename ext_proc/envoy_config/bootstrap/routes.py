"""The virtual host of a listener: which cluster a call goes to, and the retries of its route."""

from collections.abc import Sequence
from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import (
    FilterConfig,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    RouteMatchGrpcRouteMatchOptions,
    VirtualHost,
)
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import UPSTREAM_HEADER
from ext_proc.envoy_config.bootstrap.clusters import GRPC_CLUSTER, REST_CLUSTER
from ext_proc.envoy_config.parts.headers import AT_EDGES_ROUTER, AT_NODES_ROUTER, FROM_NODES
from ext_proc.envoy_config.parts.retries import GRPC_READS, REST_READS, retry_lost, retry_unprocessed, retry_unsent
from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.settings import EnvoySettings


def edge_routes(settings: EnvoySettings, names_node: bool, for_grpc: Sequence[str] = ()) -> VirtualHost:
    """To the nodes that the server names, one after the other. With `names_node` answers tell which it was.

    The filters in `for_grpc` are left out for other calls.
    """
    routes = []
    for cluster, reads in ((GRPC_CLUSTER, GRPC_READS), (REST_CLUSTER, REST_READS)):
        if settings.repeat_lost:
            again = retry_lost()
            routes += [_route(cluster, match, again) for match in reads]
        routes.append(_route(cluster, RouteMatch(prefix="/")))
    for route in routes:
        if route.match is not None and route.match.grpc is None:
            route.typed_per_filter_config = {name: Any.pack(FilterConfig(disabled=True)) for name in for_grpc}
    host = _host(settings, routes, retry_unprocessed(), AT_EDGES_ROUTER)
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


def node_routes(settings: EnvoySettings) -> VirtualHost:
    """To the one model server of this machine."""
    routes = [_route(cluster, RouteMatch(prefix="/")) for cluster in (GRPC_CLUSTER, REST_CLUSTER)]
    return _host(settings, routes, retry_unsent(), AT_NODES_ROUTER)


def _host(settings: EnvoySettings, routes: list[Route], retries: RetryPolicy, removed: tuple[str, ...]) -> VirtualHost:
    return VirtualHost(
        name="models",
        domains=["*"],
        routes=routes,
        request_headers_to_remove=list(removed),
        retry_policy=retries,
        request_body_buffer_limit=settings.limits.body_buffer_bytes,
    )


def _route(cluster: str, match: RouteMatch, retries: RetryPolicy | None = None) -> Route:
    match = replace(match, grpc=RouteMatchGrpcRouteMatchOptions()) if cluster == GRPC_CLUSTER else match
    # Time limits are the client's and the server's business: no timeout of Envoy's own.
    return Route(match=match, route=RouteAction(cluster=cluster, timeout=seconds(0), retry_policy=retries))
