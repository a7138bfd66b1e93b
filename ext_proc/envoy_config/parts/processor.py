"""The ext_proc filter's own configuration, one for each branch of the matcher in front of it."""

from dataclasses import dataclass
from enum import Enum

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRules
from envoy_data_plane.envoy.config.core.v3 import GrpcService, GrpcServiceEnvoyGrpc
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import (
    ExternalProcessor,
    MetadataOptions,
    MetadataOptionsMetadataNamespaces,
    ProcessingMode,
)
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeBodySendMode as BodyMode
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ProcessingModeHeaderSendMode as Send
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

from ext_proc.contract import (
    ENVOY_AUTHORITY,
    MAX_RETRIES_HEADER,
    NODES_NAMESPACE,
    TIME_ATTRIBUTE,
    UPSTREAM_ATTRIBUTE,
    UPSTREAM_TIMEOUT_HEADER,
)
from ext_proc.envoy_config.parts.server_retries import service_retries
from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.parts.versions import BodyAccess, body_access, short

SERVER_CLUSTER = "tbms_ext_proc"
# How long a call that is not let through waits for a server that is away. More than the retries take.
OUTAGE_SECONDS = 10.0


class Branch(Enum):
    """A branch of the matcher; the value is its name in the configuration and in Envoy's statistics."""

    OPEN = "open"
    """The headers say enough, and without the server the call goes on."""
    CLOSED = "closed"
    """The headers say enough, or the server asks for the body (1.40); without the server the call is UNAVAILABLE."""
    STREAM = "stream"
    """The body is streamed to the server; without the server the call is UNAVAILABLE."""
    BUFFER = "buffer"
    """The body is buffered and sent to the server (1.36); without the server the call is UNAVAILABLE."""


_BODY_MODES = {Branch.STREAM: BodyMode.FULL_DUPLEX_STREAMED, Branch.BUFFER: BodyMode.BUFFERED}


@dataclass(frozen=True, slots=True)
class ProcessorBranch:
    """How the filter talks to the server about the calls of one branch.

    `timeout` (seconds) bounds the wait for one answer of the server. `replies` shows the server a reply's headers,
    `to_the_end` keeps its stream until the reply has ended. Where it `may_ask`, the server says for single calls that
    it wants to see those headers. `timed` tells it when the request came, on the clock of Envoy's machine.
    """

    kind: Branch
    timeout: float
    replies: bool = False
    to_the_end: bool = False
    may_ask: bool = False
    timed: bool = False

    @property
    def body(self) -> BodyMode:
        """How the request's body is sent to the server."""
        return _BODY_MODES.get(self.kind, BodyMode.NONE)

    @property
    def may_pass(self) -> bool:
        """Whether a call goes on without the server."""
        return self.kind is Branch.OPEN


def external_processor(branch: ProcessorBranch, version: str) -> ExternalProcessor:
    """The ext_proc filter of one branch, for an Envoy of this version. Raises ConfigError if it is not supported."""
    processor = ExternalProcessor(
        grpc_service=_server(short(version)),
        failure_mode_allow=branch.may_pass,
        processing_mode=_mode(branch),
        allow_mode_override=branch.may_ask or body_access(version) is BodyAccess.OVERRIDE,
        request_attributes=[TIME_ATTRIBUTE] if branch.timed else [],
        # Which node answered. It is worked out for those replies only that the server sees.
        response_attributes=[UPSTREAM_ATTRIBUTE] if branch.may_ask else [],
        message_timeout=seconds(branch.timeout),
        stat_prefix=branch.kind.value,
        # Envoy's own rules stay: no change of :authority, :method, :scheme and host. Of its own headers only
        # the time limit of the upstream call, and how often it may be sent again.
        mutation_rules=HeaderMutationRules(
            allow_expression=RegexMatcher(regex=f"{UPSTREAM_TIMEOUT_HEADER}|{MAX_RETRIES_HEADER}")
        ),
        # Where the server leaves the ordered nodes, and `override_host` reads them.
        metadata_options=MetadataOptions(
            receiving_namespaces=MetadataOptionsMetadataNamespaces(untyped=[NODES_NAMESPACE])
        ),
    )
    if not branch.may_pass or branch.to_the_end:  # to the end: once its body is streamed, a call cannot pass any more
        processor.status_on_error = HttpStatus(code=StatusCode.ServiceUnavailable)
    return processor


def _mode(branch: ProcessorBranch) -> ProcessingMode:
    streamed = branch.body is BodyMode.FULL_DUPLEX_STREAMED
    return ProcessingMode(
        request_header_mode=Send.SEND,
        response_header_mode=Send.SEND if branch.replies else Send.SKIP,
        request_body_mode=branch.body,
        request_trailer_mode=Send.SEND if streamed else Send.SKIP,
        response_trailer_mode=Send.SEND if branch.to_the_end else Send.DEFAULT,
    )


def _server(version: str) -> GrpcService:
    # Envoy compares the whole of this with what it knows for every stream: each field costs every call.
    return GrpcService(
        envoy_grpc=GrpcServiceEnvoyGrpc(
            cluster_name=SERVER_CLUSTER,
            # Tells the server for which Envoy this was rendered, so that it can say what it cannot do there.
            authority="" if body_access(version) is BodyAccess.OVERRIDE else ENVOY_AUTHORITY + version,
            # Without x-forwarded-for and the like, which say nothing of who asks.
            skip_envoy_headers=True,
        ),
        retry_policy=service_retries(version),
    )
