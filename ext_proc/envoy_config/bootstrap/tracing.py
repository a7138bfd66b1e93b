"""Envoy's own spans, where they are asked for: OTLP over HTTP, as those of the server."""

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import HttpService, HttpUri
from envoy_data_plane.envoy.config.trace.v3 import OpenTelemetryConfig, TracingHttp
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpConnectionManagerTracing
from envoy_data_plane.envoy.extensions.tracers.opentelemetry.samplers.v3 import (
    ParentBasedSamplerConfig,
    TraceIdRatioBasedSamplerConfig,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent, FractionalPercentDenominatorType
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.parts.endpoints import assignment, configured_address, discovery
from ext_proc.envoy_config.parts.text import extension, seconds
from ext_proc.envoy_config.settings import EnvoyTracing

CLUSTER = "tbms_collector"
_PATH = "/v1/traces"
_SECONDS = 5.0
_SAMPLERS = "envoy.tracers.opentelemetry.samplers"
_MILLION = 1_000_000


def spans(settings: EnvoyTracing, listener: str) -> HttpConnectionManagerTracing:
    """The spans of calls of one listener: one for the call, and one for each node that it is sent to.

    A call with a traceparent is traced if that says so, whatever the share. The manager's own sampling, which would
    override a caller, leaves the matter to the sampler.
    """
    ratio = TraceIdRatioBasedSamplerConfig(
        sampling_percentage=FractionalPercent(
            numerator=round(settings.sample_ratio * _MILLION), denominator=FractionalPercentDenominatorType.MILLION
        )
    )
    parent = ParentBasedSamplerConfig(wrapped_sampler=extension(f"{_SAMPLERS}.trace_id_ratio_based", ratio))
    config = OpenTelemetryConfig(
        http_service=HttpService(
            http_uri=HttpUri(uri=f"http://{settings.collector}{_PATH}", cluster=CLUSTER, timeout=seconds(_SECONDS))
        ),
        service_name=f"{settings.service_name}-{listener}",
        sampler=extension(f"{_SAMPLERS}.parent_based", parent),
    )
    return HttpConnectionManagerTracing(
        provider=TracingHttp(name="envoy.tracers.opentelemetry", typed_config=Any.pack(config)),
        spawn_upstream_span=True,
    )


def collector_cluster(settings: EnvoyTracing) -> Cluster:
    """Where the spans go. Raises ConfigError for an address that Envoy could not use."""
    address = configured_address("envoy.tracing.collector", settings.collector)
    return Cluster(
        name=CLUSTER,
        type=discovery(address),
        connect_timeout=seconds(1.0),
        load_assignment=assignment(CLUSTER, [address]),
    )
