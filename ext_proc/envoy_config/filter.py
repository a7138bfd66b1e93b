"""The filter that holds the conversation with the server, and the choice by headers of how it is held.

Three ways, chosen by a matcher (composite) in front of the external processor:

    open      The headers say enough. The body stays in Envoy. Without the server the call goes on to any
              healthy node.
    closed    The headers say enough, but without the server the call is answered 503 / UNAVAILABLE.
    body      The server needs the body. Without the server the call is answered 503 / UNAVAILABLE.

From Envoy 1.40 on the server asks for the body itself, so that `body` is `closed` there. The matcher is
needed all the same: one filter could not tell which calls may go on without the server.
"""

from enum import Enum
from urllib.parse import quote

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import (
    BackoffStrategy,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    HeaderValue,
    RetryPolicy,
)
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite, ExecuteFilterAction
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeBodySendMode as BodyMode
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeHeaderSendMode as Send
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherOnMatch,
)

from ext_proc.envoy_config.matching import Predicate, all_of, any_of, matches, none_of, one_of_names, present, starts
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.envoy_config.text import extension, seconds, xds_extension
from ext_proc.envoy_config.versions import Conversation, conversation, short

FILTER = "envoy.filters.http.ext_proc"
SERVER_CLUSTER = "tbms_ext_proc"
# Where the server leaves the ordered nodes, and override_host reads them; see ext_proc.stream.mutation.
METADATA_NAMESPACE = "envoy.lb"
METADATA_KEY = "tbms-nodes"
# Tells the server on each stream for which Envoy this was rendered, so that it can say what it cannot do there.
VERSION_HEADER = "x-tbms-envoy"

# How long a call that is not let through waits for a server that is away. More than the retries below take.
OUTAGE_SECONDS = 10.0

# Headers by which a call asks for a race; see ext_proc.broker.deadline.
RACE_HEADERS = ("tloc", "backup", "primary")
# gRPC services whose calls name their model in the message only.
NAMED_IN_BODY = ("/tensorflow.serving.", "/inference.GRPCInferenceService/Model")
# Calls that change what a node serves. The server refuses them; without it they must not reach a node.
CONTROL = r"/tensorflow\.serving\.ModelService/Handle.*|/inference\.GRPCInferenceService/Repository.*|/v2/repository/.*"


class Way(Enum):
    """A branch of the matcher; the value is its name in the configuration and in Envoy's statistics."""

    OPEN = "open"
    CLOSED = "closed"
    STREAM = "stream"
    BUFFER = "buffer"


def ext_proc_filter(settings: EnvoySettings, version: str) -> HttpFilter:
    """The HTTP filter for an Envoy of this version. It stands right before the router."""
    talk = conversation(version)
    stream = Way.CLOSED if talk is Conversation.OVERRIDE else Way.STREAM
    buffer = Way.BUFFER if talk is Conversation.BUFFERED else stream
    is_grpc = starts("content-type", "application/grpc")
    named = present("x-tbms-model")
    # The first that holds decides.
    choices = [
        (matches(":path", CONTROL), Way.CLOSED),
        # A candidate call of the server's own: named, and never brokered again.
        (all_of(present("x-tbms-hop"), named), Way.OPEN),
    ]
    brokered = any_of(*[present(name) for name in RACE_HEADERS], *_with_backups(settings.body_models))
    if buffer is not stream:
        choices.append((all_of(brokered, none_of(is_grpc)), buffer))
    in_body = any_of(*[starts(":path", prefix) for prefix in NAMED_IN_BODY])
    choices.append((any_of(brokered, all_of(is_grpc, none_of(named), in_body)), stream))
    matcher = Matcher(
        matcher_list=MatcherMatcherList(
            matchers=[
                MatcherMatcherListFieldMatcher(predicate=predicate, on_match=_way(way, settings, version))
                for predicate, way in choices
            ]
        ),
        on_no_match=_way(Way.OPEN, settings, version),
    )
    composite = ExtensionWithMatcher(
        xds_matcher=matcher, extension_config=extension("envoy.filters.http.composite", Composite())
    )
    return HttpFilter(name="tbms", typed_config=Any.pack(composite))


def _with_backups(models: tuple[str, ...]) -> list[Predicate]:
    if not models:
        return []
    in_paths = one_of_names(tuple(dict.fromkeys(spelled for name in models for spelled in (name, quote(name, "")))))
    return [
        matches("x-tbms-model", one_of_names(models)),
        matches(":path", rf"/v[12]/models/{in_paths}(/(versions|labels)/[^/:?]*)?(:[a-z]+|/infer)(\?.*)?"),
    ]


def _way(way: Way, settings: EnvoySettings, version: str) -> MatcherOnMatch:
    processor = extension(FILTER, external_processor(way, settings, version))
    return MatcherOnMatch(action=xds_extension(way.value, ExecuteFilterAction(typed_config=processor)))


def external_processor(way: Way, settings: EnvoySettings, version: str) -> ExternalProcessor:
    """The external processor of one branch."""
    may_pass = way is Way.OPEN
    processor = ExternalProcessor(
        grpc_service=_server(short(version)),
        failure_mode_allow=may_pass,
        processing_mode=_mode(way, settings.watch_responses),
        allow_mode_override=conversation(version) is Conversation.OVERRIDE,
        message_timeout=seconds(_message_timeout(way, settings)),
        stat_prefix=way.value,
        # Envoy's own rules stay: no change of :authority, :method, :scheme and host. Of its own headers only
        # the time limit of the upstream call.
        mutation_rules=HeaderMutationRules(allow_expression=RegexMatcher(regex="x-envoy-upstream-rq-timeout-ms")),
        metadata_options=MetadataOptions(
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[METADATA_NAMESPACE])
        ),
    )
    if not may_pass:
        processor.status_on_error = HttpStatus(code=StatusCode.ServiceUnavailable)
    return processor


def _mode(way: Way, watch_responses: bool) -> ProcessingMode:
    body = {Way.STREAM: BodyMode.FULL_DUPLEX_STREAMED, Way.BUFFER: BodyMode.BUFFERED}.get(way, BodyMode.NONE)
    return ProcessingMode(
        request_header_mode=Send.SEND,
        response_header_mode=Send.SEND if watch_responses else Send.SKIP,
        request_body_mode=body,
        request_trailer_mode=Send.SEND if way is Way.STREAM else Send.SKIP,
    )


def _message_timeout(way: Way, settings: EnvoySettings) -> float:
    """Seconds for one answer of the server; a stuck connection is found by keepalive, much earlier."""
    if way is Way.OPEN:
        return settings.patience_seconds
    # A buffered call is held by its body's message, for as long as its limit allows. Streamed bodies have no timer.
    return settings.limits.longest_tloc_seconds + OUTAGE_SECONDS if way is Way.BUFFER else OUTAGE_SECONDS


def _server(version: str) -> GrpcService:
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SERVER_CLUSTER),
        initial_metadata=[HeaderValue(key=VERSION_HEADER, value=version)],
        # Hides a restart of the server: calls wait, and go on when it listens again.
        retry_policy=RetryPolicy(
            retry_on="connect-failure,refused-stream,reset,unavailable",
            num_retries=20,
            retry_back_off=BackoffStrategy(base_interval=seconds(0.1), max_interval=seconds(0.5)),
        ),
    )
