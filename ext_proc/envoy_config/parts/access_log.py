"""The access log by which Envoy tells the server of plain calls that have ended (envoy.service.accesslog.v3).

Only calls to which a node was named are told of. All that the map of known calls has named one to: nobody else counts
them. And some of those that the server has named one to, which it counted then, to learn how long such calls take.
"""

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    MetadataFilter,
    OrFilter,
    RuntimeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig
from envoy_data_plane.envoy.type.matcher.v3 import MetadataMatcher, MetadataMatcherPathSegment, ValueMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType
from envoy_data_plane.google.protobuf import Any

from ext_proc.contract import ACCESS_LOG_NAME, KNOWN_KEY, MODEL_HEADER, NODES_KEY, NODES_NAMESPACE
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


def calls_log() -> AccessLog:
    """The access log of a listener for clients' calls, an edge's or a node's."""
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
    some = AndFilter(filters=[_named_by(NODES_KEY), _one_in(SAMPLE)])
    named = OrFilter(filters=[_named_by(KNOWN_KEY), AccessLogFilter(and_filter=some)])
    return AccessLog(
        name="envoy.access_loggers.http_grpc",
        filter=AccessLogFilter(or_filter=named),
        typed_config=Any.pack(config),
    )


def _named_by(key: str) -> AccessLogFilter:
    matcher = MetadataMatcher(
        filter=NODES_NAMESPACE, path=[MetadataMatcherPathSegment(key=key)], value=ValueMatcher(present_match=True)
    )
    return AccessLogFilter(metadata_filter=MetadataFilter(matcher=matcher, match_if_key_not_found=False))


def _one_in(number: int) -> AccessLogFilter:
    share = FractionalPercent(numerator=10_000 // number, denominator=FractionalPercentDenominatorType.TEN_THOUSAND)
    return AccessLogFilter(
        runtime_filter=RuntimeFilter(
            runtime_key="tbms.access_log.routed", percent_sampled=share, use_independent_randomness=True
        )
    )
