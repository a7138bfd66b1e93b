"""The access log by which Envoy tells the server of plain calls that have ended (envoy.service.accesslog.v3).

Only calls to which a node was named are told of. Those that the map of known calls has named one to: nobody else counts
them. Of models that are called often one in so many stands for the others, as the map says; those that fail are told of
all the same. All that went to nodes of other zones: nobody else sees whether those answer. And some of the others that
the server has named one to, which it counted then, to learn how long such calls take.
"""

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    GrpcStatusFilter,
    GrpcStatusFilterStatus,
    HeaderFilter,
    LogTypeFilter,
    MetadataFilter,
    OrFilter,
    RuntimeFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc, RuntimeUInt32
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import (
    ACCESS_LOG_NAME,
    FAR_PREFIX,
    KNOWN_KEY,
    KNOWN_NAMESPACE,
    MODEL_HEADER,
    NODES_KEY,
    NODES_NAMESPACE,
    ONE_IN,
    ONE_IN_KEY,
)
from ext_proc.envoy_config.parts.processor import SERVER_CLUSTER
from ext_proc.envoy_config.parts.text import seconds

# How long an entry may wait for company. What the server knows of loads is as old as this.
FLUSH_SECONDS = 0.1
# Of entries that go together, some forty: the server goes through them in one turn of its loop.
BUFFER_BYTES = 16 * 1024
# How often a call tells of itself that runs for longer: a node's server may not unload its model.
RUNNING_SECONDS = 0.25
# One in so many of the calls that the server routes is told of.
SAMPLE = 8


def calls_log(*, running: bool = False) -> AccessLog:
    """The access log of a listener for clients' calls, an edge's or a node's.

    With `running` the listener has calls tell of themselves while they run, and of known ones all do.
    """
    common = CommonGrpcAccessLogConfig(
        log_name=ACCESS_LOG_NAME,
        grpc_service=GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=SERVER_CLUSTER)),
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=seconds(FLUSH_SECONDS),
        buffer_size_bytes=BUFFER_BYTES,
    )
    config = HttpGrpcAccessLogConfig(
        common_config=common,
        additional_request_headers_to_log=[MODEL_HEADER],
        # A reply without a message has its status among the headers.
        additional_response_headers_to_log=["grpc-status"],
        additional_response_trailers_to_log=["grpc-status"],
    )
    known, routed = _says(KNOWN_NAMESPACE, KNOWN_KEY), _says(NODES_NAMESPACE, NODES_KEY)
    which = [_says(KNOWN_NAMESPACE, ONE_IN_KEY, present=False), _failed(), _one_in(ONE_IN, "known")]
    if running:
        runs = LogTypeFilter(types=[AccessLogType.DownstreamPeriodic])
        which.append(AccessLogFilter(log_type_filter=runs))
    told = _any_of(
        _all_of(known, _any_of(*which)),
        _all_of(routed, _any_of(_far(), _one_in(SAMPLE, "routed"))),
    )
    return AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=told,
        typed_config=Any.pack(config),
    )


def _all_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(filters)))


def _any_of(*filters: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(or_filter=OrFilter(filters=list(filters)))


def _says(namespace: str, key: str, *, present: bool = True) -> AccessLogFilter:
    """Calls whose metadata have that key, or (not `present`) have it not; the value is not empty."""
    # The log's filter does not heed a matcher's `invert`: the value is compared with one that it never is.
    value = ValueMatcher(present_match=True) if present else ValueMatcher(string_match=StringMatcher(exact=""))
    matcher = MetadataMatcher(filter=namespace, path=[MetadataMatcherPathSegment(key=key)], value=value)
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=not present))


def _failed() -> AccessLogFilter:
    """Calls to which the node, or Envoy for it, has answered with an error."""
    error = RuntimeUInt32(default_value=400, runtime_key="tbms.access_log.status")
    status = StatusCodeFilter(comparison=ComparisonFilter(op=ComparisonFilterOp.GE, value=error))
    not_ok = GrpcStatusFilter(statuses=[GrpcStatusFilterStatus.OK], exclude=True)
    grpc = HeaderMatcher(name="content-type", string_match=StringMatcher(prefix="application/grpc"))
    return _any_of(
        AccessLogFilter(status_code_filter=status),
        _all_of(AccessLogFilter(header_filter=HeaderFilter(header=grpc)), AccessLogFilter(grpc_status_filter=not_ok)),
    )


def _far() -> AccessLogFilter:
    """Calls that the server has sent to a node of another zone."""
    value = ValueMatcher(string_match=StringMatcher(prefix=FAR_PREFIX))
    matcher = MetadataMatcher(filter=NODES_NAMESPACE, path=[MetadataMatcherPathSegment(key=NODES_KEY)], value=value)
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=False))


def _one_in(number: int, of: str) -> AccessLogFilter:
    share = FractionalPercent(numerator=10_000 // number, denominator=FractionalPercentDenominatorType.TEN_THOUSAND)
    return AccessLogFilter(
        runtime_filter=RuntimeFilter(
            runtime_key=f"tbms.access_log.{of}", percent_sampled=share, use_independent_randomness=True
        )
    )
