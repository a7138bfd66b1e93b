"""The external processor as a filter, and the choice by headers of how the conversation with it is held."""

from collections.abc import Sequence
from dataclasses import dataclass

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

from ext_proc.contract import CONTROL_PATHS, ENVOY_VERSION_METADATA, NODES_NAMESPACE, TIME_ATTRIBUTE, UPSTREAM_ATTRIBUTE
from ext_proc.envoy_config.matching import Predicate
from ext_proc.envoy_config.text import extension, seconds, xds_extension
from ext_proc.envoy_config.versions import BodyAccess, body_access, short

FILTER = "envoy.filters.http.ext_proc"
SERVER_CLUSTER = "tbms_ext_proc"
# Where the server leaves the ordered nodes, and override_host reads them; see ext_proc.processing.response.
# Tells the server on each stream for which Envoy this was rendered, so that it can say what it cannot do there.

# How long a call that is not let through waits for a server that is away. More than the retries below take.
OUTAGE_SECONDS = 10.0
CONTROL = CONTROL_PATHS
# gRPC services whose calls name their model in the message only.
NAMED_IN_BODY = ("/tensorflow.serving.", "/inference.GRPCInferenceService/Model")


@dataclass(frozen=True, slots=True)
class ProcessorBranch:
    """One way to hold the conversation: a branch of the matcher. `name` is that in Envoy's statistics, too.

    `timeout` (seconds) bounds the wait for one answer of the server. A call that `may_pass` goes on without the
    server. `replies` shows the server a reply's headers, `to_the_end` keeps its stream until the reply has ended.
    Where it `may_ask`, the server says for single calls that it wants to see those headers. `timed` tells it when the
    request came, on the clock of Envoy's machine.
    """

    name: str
    timeout: float
    body: BodyMode = BodyMode.NONE
    may_pass: bool = False
    replies: bool = False
    to_the_end: bool = False
    may_ask: bool = False
    timed: bool = False


def chosen_by_headers(
    choices: Sequence[tuple[Predicate, ProcessorBranch]], otherwise: ProcessorBranch, version: str
) -> HttpFilter:
    """The filter: the first choice that holds decides. It stands right before the router."""
    matchers = [
        MatcherMatcherListFieldMatcher(predicate=predicate, on_match=_branch(talk, version))
        for predicate, talk in choices
    ]
    matcher = Matcher(matcher_list=MatcherMatcherList(matchers=matchers), on_no_match=_branch(otherwise, version))
    composite = ExtensionWithMatcher(
        xds_matcher=matcher, extension_config=extension("envoy.filters.http.composite", Composite())
    )
    return HttpFilter(name="tbms", typed_config=Any.pack(composite))


def _branch(talk: ProcessorBranch, version: str) -> MatcherOnMatch:
    processor = extension(FILTER, external_processor(talk, version))
    return MatcherOnMatch(action=xds_extension(talk.name, ExecuteFilterAction(typed_config=processor)))


def external_processor(talk: ProcessorBranch, version: str) -> ExternalProcessor:
    """The external processor of one branch, for an Envoy of this version."""
    processor = ExternalProcessor(
        grpc_service=_server(short(version)),
        failure_mode_allow=talk.may_pass,
        processing_mode=_mode(talk),
        allow_mode_override=talk.may_ask or body_access(version) is BodyAccess.OVERRIDE,
        request_attributes=[TIME_ATTRIBUTE] if talk.timed else [],
        # Which node answered. It is worked out for those replies only that the server sees.
        response_attributes=[UPSTREAM_ATTRIBUTE] if talk.may_ask else [],
        message_timeout=seconds(talk.timeout),
        stat_prefix=talk.name,
        # Envoy's own rules stay: no change of :authority, :method, :scheme and host. Of its own headers only
        # the time limit of the upstream call.
        mutation_rules=HeaderMutationRules(allow_expression=RegexMatcher(regex="x-envoy-upstream-rq-timeout-ms")),
        metadata_options=MetadataOptions(
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NODES_NAMESPACE])
        ),
    )
    if not talk.may_pass or talk.to_the_end:  # to the end: once its body is streamed, a call cannot pass any more
        processor.status_on_error = HttpStatus(code=StatusCode.ServiceUnavailable)
    return processor


def _mode(talk: ProcessorBranch) -> ProcessingMode:
    streamed = talk.body is BodyMode.FULL_DUPLEX_STREAMED
    return ProcessingMode(
        request_header_mode=Send.SEND,
        response_header_mode=Send.SEND if talk.replies else Send.SKIP,
        request_body_mode=talk.body,
        request_trailer_mode=Send.SEND if streamed else Send.SKIP,
        response_trailer_mode=Send.SEND if talk.to_the_end else Send.DEFAULT,
    )


def _server(version: str) -> GrpcService:
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SERVER_CLUSTER),
        initial_metadata=[HeaderValue(key=ENVOY_VERSION_METADATA, value=version)],
        # Hides a restart of the server: calls wait, and go on when it listens again.
        retry_policy=RetryPolicy(
            retry_on="connect-failure,refused-stream,reset,unavailable",
            num_retries=20,
            retry_back_off=BackoffStrategy(base_interval=seconds(0.1), max_interval=seconds(0.5)),
        ),
    )
