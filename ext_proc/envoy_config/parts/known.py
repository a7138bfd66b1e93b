"""Known calls in Envoy: a filter that comes from the file that the server writes, and what our own filter makes of it.

The file holds a filter that names the nodes of the calls that it knows (docs/known-calls.md). Envoy rejects a listener
whose file is not there: an empty map has to lie there before Envoy starts. It watches for a rename onto the file.

A call has that filter made only when it comes to it. A filter of the listener itself that came from the file would be
made when the call begins, and a call may wait before it, for its message or in a filter of a mesh: when the file
changes meanwhile, the call would go on to what Envoy has taken down (docs/decisions/177).
"""

from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    ExtensionConfigSource,
    PathConfigSource,
)
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import DynamicConfig, ExecuteFilterAction
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.xds.type.matcher.v3 import MatcherOnMatch

from ext_proc.contract import KNOWN_FILTER, KNOWN_KEY, KNOWN_NAMESPACE
from ext_proc.envoy_config.parts.matching import Predicate, chosen, has_metadata
from ext_proc.envoy_config.parts.text import xds_extension

_TYPE = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"


def known_filter(file: str) -> HttpFilter:
    """The filter before `edge_filter` or `node_filter`: what this file says when a call comes to it."""
    source = ConfigSource(path_config_source=PathConfigSource(path=file), resource_api_version=ApiVersion.V3)
    discovery = ExtensionConfigSource(config_source=source, type_urls=[_TYPE])
    action = ExecuteFilterAction(dynamic_config=DynamicConfig(name=KNOWN_FILTER, config_discovery=discovery))
    return chosen(KNOWN_FILTER, [], MatcherOnMatch(action=xds_extension("from-file", action)))


def is_known() -> Predicate:
    """The nodes of the call are named already. Nobody but filters can say so: it is no header."""
    return has_metadata(KNOWN_NAMESPACE, KNOWN_KEY)


def skip() -> MatcherOnMatch:
    """The filter lets the call be."""
    return MatcherOnMatch(action=xds_extension("skip", SkipFilter()))
