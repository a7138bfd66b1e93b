"""Routes that tell which gRPC calls Envoy reads the model of: for them alone stand the filters of `parts.grpc_names`.

Conditions of a route cost less than matchers in front of each filter, and are asked once for all of them. What steers
has been removed when the route is chosen (`parts.headers.FROM_CLIENTS`), so that it is not among them.
"""

from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, Route, RouteMatch
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from ext_proc.contract import (
    BEYOND_THE_NAME,
    KNOWN_METHODS,
    KNOWN_NAMESPACE,
    MODEL_HEADER,
    NAMING_METHODS,
    STEERING_HEADERS,
    TELL_KEY,
)
from ext_proc.envoy_config.parts.grpc_names import from_header, from_message

_SAID = tuple(name for name in BEYOND_THE_NAME if name not in STEERING_HEADERS)


def grpc_name_routes(grpc: Route, message_bytes: int, version: str) -> list[Route]:
    """The routes of the calls that may be known. They lead where `grpc` leads, which takes any gRPC call.

    A message of more than `message_bytes` is refused where it would have to be read.
    """
    routes = []
    for path in NAMING_METHODS:
        headers = [_absent(name) for name in (MODEL_HEADER, "grpc-encoding", *_SAID)]
        match = _match(grpc, path, headers)
        route = replace(grpc, match=match, request_headers_to_add=[_told()])
        routes.append(from_message(route, path, message_bytes, version))
    # Without version and label. (Envoy takes no regular expression in a route that would say how long a name may be.)
    one_name = HeaderMatcher(name=MODEL_HEADER, string_match=StringMatcher(contains="/"), invert_match=True)
    for path in KNOWN_METHODS:
        headers = [HeaderMatcher(name=MODEL_HEADER, present_match=True), one_name, *[_absent(name) for name in _SAID]]
        routes.append(replace(grpc, match=_match(grpc, path, headers), typed_per_filter_config=from_header()))
    return routes


def _match(grpc: Route, path: str, headers: list[HeaderMatcher]) -> RouteMatch:
    # The path as a header, since a path's own match leaves out the query.
    return replace(grpc.match or RouteMatch(), headers=[_is(":path", path), _is(":method", "POST"), *headers])


def _is(name: str, value: str) -> HeaderMatcher:
    return HeaderMatcher(name=name, string_match=StringMatcher(exact=value))


def _absent(name: str) -> HeaderMatcher:
    return HeaderMatcher(name=name, present_match=True, invert_match=True)


def _told() -> HeaderValueOption:
    """Nodes with the node role are told the model of a known call; the map says of which. Nothing where it does not."""
    return HeaderValueOption(
        header=HeaderValue(key=MODEL_HEADER, value=f"%DYNAMIC_METADATA({KNOWN_NAMESPACE}:{TELL_KEY})%"),
        append_action=HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
    )
