"""What Envoy answers by itself, in the words of the protocols: `{"error": "..."}` for REST, grpc-message for gRPC.

Answers of the server pass through here, too, and must not be touched; so only Envoy's own are matched.
"""

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ExtensionFilter,
    HeaderFilter,
    ResponseFlagFilter,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, SubstitutionFormatString
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any, Struct, Value

SERVER_AWAY = "the model routing server did not answer"
# The call did not reach a node, or its answer did not come back; see "Response flags" of Envoy's access log.
FLAGS = ["UH", "UF", "UO", "UC", "UT", "URX", "LR", "UR", "NC", "NR"]


def local_replies() -> LocalReplyConfig:
    """The first mapper whose filter holds rewrites the answer."""
    away = DataSource(inline_string=SERVER_AWAY)
    return LocalReplyConfig(
        mappers=[
            ResponseMapper(filter=_all_of(_server_failed(), _is_rest()), body=away, body_format_override=_json()),
            ResponseMapper(filter=_server_failed(), body=away),
            ResponseMapper(filter=_all_of(_node_failed(), _is_rest()), body_format_override=_json()),
        ]
    )


def _json() -> SubstitutionFormatString:
    return SubstitutionFormatString(json_format=Struct(fields={"error": Value(string_value="%LOCAL_REPLY_BODY%")}))


def _server_failed() -> AccessLogFilter:
    expression = ExpressionFilter(expression="response.code_details.startsWith('ext_proc_error')")
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=Any.pack(expression)
        )
    )


def _node_failed() -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=FLAGS))


def _is_rest() -> AccessLogFilter:
    not_grpc = HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix="application/grpc"),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    return AccessLogFilter(header_filter=HeaderFilter(header=not_grpc))


def _all_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))
