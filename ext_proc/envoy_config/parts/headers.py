"""Headers that must not pass a border: what steers inside tbms is removed from calls that come in, and from replies."""

from collections.abc import Mapping, Sequence

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption, TypedExtensionConfig
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOptionHeaderAppendAction as AppendAction
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation as HeaderMutationFilter
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import (
    ELSEWHERE_HEADER,
    HOP_HEADER,
    NAMED_HEADER,
    NODE_HEADER,
    RESIDENCY_HEADER,
    RETRIES_HEADER,
    STEERING_HEADERS,
)
from ext_proc.envoy_config.parts.text import extension

# Removed on arrival. Clients can neither choose a node nor pass as the server.
FROM_CLIENTS = (*STEERING_HEADERS, NAMED_HEADER)
# The server's own calls carry the hop mark, and where nobody else can call, the node of another zone in clear.
FROM_ANYBODY = (NODE_HEADER,)
FROM_SERVER: tuple[str, ...] = ()
# Nobody who calls a node may steer, or pass as another node's server; an edge may ask it about residency, and tells it
# of sessions and of the terms of a call.
FROM_EDGES = (NODE_HEADER, HOP_HEADER)
# Removed at an edge's router, so after the route was chosen by them: they end here.
AT_EDGES_ROUTER = (NODE_HEADER, HOP_HEADER, NAMED_HEADER, RETRIES_HEADER, "x-envoy-external-address")
# Removed at a node's router, which is the last: with the server away, too, none of them reaches a model server.
AT_NODES_ROUTER = (*STEERING_HEADERS, "x-envoy-external-address")
# Removed from the replies of nodes at the edge's router, where retries have seen it.
FROM_NODES = (ELSEWHERE_HEADER,)


def removed_on_arrival(names: Sequence[str]) -> TypedExtensionConfig:
    """An early header mutation: removes headers before the route is chosen and before any filter, so with the server
    away, too.
    """
    mutations = [HeaderMutation(remove=name) for name in names]
    return extension("envoy.http.early_header_mutation.header_mutation", EarlyHeaderMutation(mutations=mutations))


def kept_from_clients() -> HttpFilter:
    """The filter that takes the residency header off every reply, after all filters behind it have seen it.

    A virtual host's `response_headers_to_remove` would do so at the router, before any of them.
    """
    mutations = Mutations(response_mutations=[HeaderMutation(remove=RESIDENCY_HEADER)])
    config = HeaderMutationFilter(mutations=mutations)
    return HttpFilter(name="envoy.filters.http.header_mutation", typed_config=Any.pack(config))


def written(values: Mapping[str, str]) -> TypedExtensionConfig:
    """A filter that writes request headers over whatever was there: name -> value, in Envoy's format strings."""
    return extension("envoy.filters.http.header_mutation", HeaderMutationFilter(mutations=writes(values)))


def writes(values: Mapping[str, str]) -> Mutations:
    """What such a filter does, which a route can tell it, too."""
    options = [
        HeaderValueOption(
            header=HeaderValue(key=name, value=value), append_action=AppendAction.OVERWRITE_IF_EXISTS_OR_ADD
        )
        for name, value in values.items()
    ]
    return Mutations(request_mutations=[HeaderMutation(append=option) for option in options])
