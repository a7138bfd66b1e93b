"""The server's own calls where Envoy knows that they are: it reads their nodes itself, and asks nobody."""

from envoy_data_plane.envoy.extensions.filters.http.header_to_metadata.v3 import (
    Config,
    ConfigKeyValuePair,
    ConfigRule,
    ConfigValueType,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatchAndSubstitute, RegexMatcher
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import HOP_HEADER, MAX_RETRIES_HEADER, NODES_KEY, NODES_NAMESPACE, RETRIES_HEADER
from ext_proc.envoy_config.parts.headers import written


def nodes_of_hop_mark() -> HttpFilter:
    """The filter that takes the hop mark off a call and hands its nodes to `override_host`.

    Only for a listener that nobody but the server can reach: the mark is not verified. A call without one goes to any
    healthy node. The mark is a secret, a blank and the nodes; see `ext_proc.upstream.hop_mark`.
    """
    nodes = RegexMatchAndSubstitute(pattern=RegexMatcher(regex=r"^\S+ (\S+)$"), substitution=r"\1")
    told = ConfigKeyValuePair(
        metadata_namespace=NODES_NAMESPACE, key=NODES_KEY, type=ConfigValueType.STRING, regex_value_rewrite=nodes
    )
    config = Config(request_rules=[ConfigRule(header=HOP_HEADER, on_header_present=told, remove=True)])
    return HttpFilter(name="envoy.filters.http.header_to_metadata", typed_config=Any.pack(config))


def retries_of_server() -> HttpFilter:
    """The filter that believes the server how often its call may be asked again; where it says nothing, the route does.

    Envoy takes its own header for that off every call that comes in, so that it is written here.
    """
    found = written({MAX_RETRIES_HEADER: f"%REQ({RETRIES_HEADER})%"})
    return HttpFilter(name=found.name, typed_config=found.typed_config)
