"""Known calls in Envoy: a filter that comes from the file that the server writes, and what our own filter makes of it.

The file holds a filter that names the nodes of the calls that it knows (docs/known-calls.md). Envoy rejects a listener
whose file is not there: an empty map has to lie there before Envoy starts. It watches for a rename onto the file.
"""

from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    ExtensionConfigSource,
    PathConfigSource,
)
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.xds.type.matcher.v3 import MatcherOnMatch

from ext_proc.contract import KNOWN_FILTER, KNOWN_KEY, KNOWN_NAMESPACE
from ext_proc.envoy_config.parts.matching import Predicate, has_metadata
from ext_proc.envoy_config.parts.text import xds_extension

_TYPE = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"


def known_filter(file: str) -> HttpFilter:
    """The filter before `edge_filter` or `node_filter`: what this file says, from the moment on at which it says it."""
    source = ConfigSource(path_config_source=PathConfigSource(path=file), resource_api_version=ApiVersion.V3)
    return HttpFilter(
        name=KNOWN_FILTER, config_discovery=ExtensionConfigSource(config_source=source, type_urls=[_TYPE])
    )


def is_known() -> Predicate:
    """The nodes of the call are named already. Nobody but filters can say so: it is no header."""
    return has_metadata(KNOWN_NAMESPACE, KNOWN_KEY)


def skip() -> MatcherOnMatch:
    """The filter lets the call be."""
    return MatcherOnMatch(action=xds_extension("skip", SkipFilter()))
