"""Which cluster a call goes to, and whether another node is asked when one has not answered."""

from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, HeaderValueOptionHeaderAppendAction
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteMatch,
    RouteMatchGrpcRouteMatchOptions,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import ELSEWHERE_HEADER, HOP_HEADER, NODE_HEADER, UPSTREAM_HEADER
from ext_proc.envoy_config.clusters import GRPC_CLUSTER, REST_CLUSTER
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.envoy_config.text import seconds

# A second node is tried if the first refused, and so on; the server names as many as there are replicas.
TRIES = 3
# Provably not processed: no connection, refused or reset before it was sent.
UNSENT = "connect-failure,refused-stream,reset-before-request"
# Or the node says so.
UNPROCESSED = f"{UNSENT},retriable-headers"


def _matches(regex: str) -> RouteMatch:
    return RouteMatch(safe_regex=RegexMatcher(regex=regex))


# Calls that only read, so that asking twice does no harm; neither streams nor SessionRun. Envoy takes short expressions
# only, hence more than one.
READS = {
    GRPC_CLUSTER: (
        RouteMatch(prefix="/tensorflow.serving.PredictionService/"),
        _matches(r"/inference\.GRPCInferenceService/Model(Infer|Ready|Metadata|Config)"),
    ),
    REST_CLUSTER: (
        RouteMatch(prefix="/v1/models/"),
        _matches(r"/v2/models/.+/(infer|ready|config|stats)(\?.*)?"),
    ),
}


def edge_routes(settings: EnvoySettings, names_node: bool) -> VirtualHost:
    """To the nodes that the server names, one after the other. With `names_node` answers tell which it was."""
    routes = []
    for cluster in (GRPC_CLUSTER, REST_CLUSTER):
        if settings.repeat_lost:
            again = _retries(f"{UNPROCESSED},reset", _NODE_SAYS)
            routes += [_route(cluster, match, again) for match in READS[cluster]]
        routes.append(_route(cluster, RouteMatch(prefix="/")))
    host = _host(settings, routes, _retries(UNPROCESSED, _NODE_SAYS))
    # Tells a node whether it is the first to be asked; see `replies`.
    host.include_request_attempt_count = True
    host.response_headers_to_remove = [ELSEWHERE_HEADER]
    if names_node:
        host.response_headers_to_add = [
            HeaderValueOption(
                header=HeaderValue(key=UPSTREAM_HEADER, value="%UPSTREAM_REMOTE_ADDRESS%"),
                append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ]
    return host


def node_routes(settings: EnvoySettings) -> VirtualHost:
    """To the one model server of this machine. Whether another node is asked is the edge's to decide."""
    routes = [_route(cluster, RouteMatch(prefix="/")) for cluster in (GRPC_CLUSTER, REST_CLUSTER)]
    return _host(settings, routes, _retries(UNSENT))


_NODE_SAYS = HeaderMatcher(name=ELSEWHERE_HEADER, present_match=True)


def _host(settings: EnvoySettings, routes: list[Route], retries: RetryPolicy) -> VirtualHost:
    return VirtualHost(
        name="models",
        domains=["*"],
        routes=routes,
        # At the router, so after the route was chosen by them: they end here.
        request_headers_to_remove=[NODE_HEADER, HOP_HEADER, "x-envoy-external-address"],
        retry_policy=retries,
        request_body_buffer_limit=settings.limits.body_buffer_bytes,
    )


def _route(cluster: str, match: RouteMatch, retries: RetryPolicy | None = None) -> Route:
    match = replace(match, grpc=RouteMatchGrpcRouteMatchOptions()) if cluster == GRPC_CLUSTER else match
    # Time limits are the client's and the server's business: no timeout of Envoy's own.
    return Route(match=match, route=RouteAction(cluster=cluster, timeout=seconds(0), retry_policy=retries))


def _retries(on: str, *answers: HeaderMatcher) -> RetryPolicy:
    return RetryPolicy(
        retry_on=on,
        retriable_headers=list(answers),
        num_retries=TRIES,
        # The next try goes to another node, so there is nothing to wait for.
        retry_back_off=RetryPolicyRetryBackOff(base_interval=seconds(0.001), max_interval=seconds(0.01)),
        # For the fallback, which picks by itself once the nodes that the server named are used up.
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts", typed_config=Any.pack(PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=5,
    )
