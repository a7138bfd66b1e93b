"""Headers that must not pass a border, and headers that must keep their spelling."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import Http1ProtocolOptionsHeaderKeyFormat, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation as HeaderMutationFilter
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case.v3 import PreserveCaseFormatterConfig
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.text import extension


def removed_on_arrival(names: Sequence[str]) -> TypedExtensionConfig:
    """Removes headers before the route is chosen and before any filter, so with the server away, too."""
    mutations = [HeaderMutation(remove=name) for name in names]
    return extension("envoy.http.early_header_mutation.header_mutation", EarlyHeaderMutation(mutations=mutations))


def kept_from_clients(name: str) -> HttpFilter:
    """Takes a header off every reply, after all filters that stand behind this one have seen it.

    A virtual host's `response_headers_to_remove` would do so at the router, before any of them.
    """
    mutations = Mutations(response_mutations=[HeaderMutation(remove=name)])
    config = HeaderMutationFilter(mutations=mutations)
    return HttpFilter(name="envoy.filters.http.header_mutation", typed_config=Any.pack(config))


def as_written() -> Http1ProtocolOptionsHeaderKeyFormat:
    """HTTP/1.1 header names as they were sent, and the reason phrase; Envoy would lower the case."""
    formatter = PreserveCaseFormatterConfig(forward_reason_phrase=True)
    return Http1ProtocolOptionsHeaderKeyFormat(
        stateful_formatter=extension("envoy.http.stateful_header_formatters.preserve_case", formatter)
    )
