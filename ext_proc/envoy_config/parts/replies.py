"""Local replies, what Envoy answers by itself, worded by protocol: `{"error": "..."}` for REST, grpc-message for gRPC.

Answers of the server are local replies to Envoy, too, and must not be touched; so only Envoy's own are matched.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ExtensionFilter,
    HeaderFilter,
    OrFilter,
    ResponseFlagFilter,
)
from envoy_data_plane.envoy.config.core.v3 import DataSource, HeaderValue, HeaderValueOption, SubstitutionFormatString
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3 import ExpressionFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any, Struct, Value

from ext_proc.contract import ELSEWHERE_HEADER
from ext_proc.envoy_config.parts.codec import MAX_HEADERS, MAX_HEADERS_KIB

SERVER_AWAY = "the model routing server did not answer"
HEADERS_TOO_LARGE = f"Envoy refused the request: more than {MAX_HEADERS} headers, or {MAX_HEADERS_KIB} KiB of them"
BODY = "%LOCAL_REPLY_BODY%"
# `ext_proc.wire.content_type`, as a regular expression: grpc-web is none of them.
GRPC_TYPES = "application/grpc([+;].*)?"
# The call did not reach a node, or its answer did not come back; see "Response flags" of Envoy's access log.
FLAGS = ["UH", "UF", "UO", "UC", "UT", "URX", "LR", "UR", "NC", "NR", "SI", "DT", "OM", "UPE"]
# Response code details of requests that Envoy refused by itself. Most are answered without a word.
TOO_LARGE = ["http1.headers_too_large", "http1.too_many_headers"]
REFUSED = [
    "absolute_path_rejected",
    "low_version",
    "missing_host_header",
    "missing_path_rejected",
    "path_normalization_failed",
    "request_header_timeout",
    "request_payload_too_large",
    "route_not_found",
    "upgrade_failed",
]
# And of all that the codec refuses: http.invalid_authority, http1.codec_error and so on.
CODEC = "http"
# No connection: provably not processed. And: connected, and lost before the answer.
UNREACHED, LOST = ["UF"], ["UC", "LR", "UR"]


@dataclass(frozen=True, slots=True)
class _Reply:
    """Local replies that `when` holds for: given other words, or written as JSON."""

    when: AccessLogFilter
    words: str | None = None
    json: str | None = None  # the text of `error`, in Envoy's format strings


def local_replies(*, ask_elsewhere: bool = False) -> LocalReplyConfig:
    """The local_reply_config of an HTTP connection manager: the first mapper whose filter holds rewrites the answer.

    With `ask_elsewhere`, for a node: where another node may serve the call, the answer says so. A call that was lost
    may be what brought the model server down; so this is said of it by the first node that was asked only.
    """
    replies = [
        _Reply(_all_of(_server_failed(), _is_rest()), SERVER_AWAY, json=BODY),
        _Reply(_server_failed(), SERVER_AWAY),
        _Reply(_all_of(_cel(f"response.code_details in {TOO_LARGE}"), _is_rest()), HEADERS_TOO_LARGE, json=BODY),
        _Reply(_all_of(_refused(), _is_rest()), json="Envoy refused the request: %RESPONSE_CODE_DETAILS%"),
        _Reply(_all_of(_flagged(FLAGS), _is_rest()), json=BODY),
    ]
    mappers = [_mapper(each) for each in replies]
    if ask_elsewhere:
        told = _any_of(_flagged(UNREACHED), _all_of(_asked_first(), _any_of(_server_failed(), _flagged(LOST))))
        header = [HeaderValueOption(header=HeaderValue(key=ELSEWHERE_HEADER, value="1"))]
        replies.append(_Reply(_flagged(FLAGS)))
        mappers = [_mapper(each, told, header) for each in replies] + mappers
    return LocalReplyConfig(mappers=mappers)


def _mapper(
    reply: _Reply, also: AccessLogFilter | None = None, headers: list[HeaderValueOption] | None = None
) -> ResponseMapper:
    mapper = ResponseMapper(
        filter=reply.when if also is None else _all_of(also, reply.when), headers_to_add=headers or []
    )
    if reply.words is not None:
        mapper.body = DataSource(inline_string=reply.words)
    if reply.json is not None:
        document = Struct(fields={"error": Value(string_value=reply.json)})
        mapper.body_format_override = SubstitutionFormatString(json_format=document)
    return mapper


def _server_failed() -> AccessLogFilter:
    return _cel("response.code_details.startsWith('ext_proc_error')")


def _refused() -> AccessLogFilter:
    return _cel(f"response.code_details.startsWith({CODEC!r}) || response.code_details in {REFUSED}")


def _cel(expression: str) -> AccessLogFilter:
    return AccessLogFilter(
        extension_filter=ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel",
            typed_config=Any.pack(ExpressionFilter(expression=expression)),
        )
    )


def _flagged(flags: list[str]) -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=flags))


def _is_rest() -> AccessLogFilter:
    return _header("content-type", StringMatcher(safe_regex=RegexMatcher(regex=GRPC_TYPES)), invert=True)


def _asked_first() -> AccessLogFilter:
    """The first try of an edge's Envoy, which counts its tries, or a call of anyone else, which has no count."""
    return _header("x-envoy-attempt-count", StringMatcher(safe_regex=RegexMatcher(regex="1?")))


def _header(name: str, match: StringMatcher, invert: bool = False) -> AccessLogFilter:
    """A header that is missing counts as empty."""
    matcher = HeaderMatcher(name=name, string_match=match, invert_match=invert, treat_missing_header_as_empty=True)
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))


def _all_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))


def _any_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(or_filter=OrFilter(filters=list(filters)))
