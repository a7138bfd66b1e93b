"""What clusters have in common: the HTTP that is spoken there, how much is let in flight, and how health is checked."""

from envoy_data_plane.envoy.config.cluster.v3 import CircuitBreakers, CircuitBreakersThresholds
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck,
    HealthCheckTcpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
)
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonHttpOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)

from ext_proc.envoy_config.headers import as_written
from ext_proc.envoy_config.settings import EnvoySettings
from ext_proc.envoy_config.text import seconds

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Model servers close an idle HTTP/1.1 connection after 30 s or more (TF Serving). Closing first avoids the
# race in which a call is sent on a connection that is just being closed; such a call could not be repeated.
REST_IDLE_SECONDS = 20.0


def health_checks(interval: float, failures: int = 2, when_down: float | None = None) -> list[HealthCheck]:
    """Opens a connection every `interval` seconds, and every `when_down` seconds once that failed."""
    if not interval:
        return []
    again = seconds(when_down or interval)
    return [
        HealthCheck(
            timeout=seconds(min(interval, 1.0)),
            interval=seconds(interval),
            no_traffic_interval=again,
            no_traffic_healthy_interval=seconds(interval),
            unhealthy_interval=again,
            unhealthy_threshold=failures,
            healthy_threshold=1,
            tcp_health_check=HealthCheckTcpHealthCheck(),
        )
    ]


def breakers(settings: EnvoySettings) -> CircuitBreakers:
    """Envoy's own defaults (1024; 3 retries) would shed calls that the server meant to hold."""
    limit = settings.limits.in_flight
    thresholds = CircuitBreakersThresholds(
        max_connections=limit, max_pending_requests=limit, max_requests=limit, max_retries=limit
    )
    return CircuitBreakers(thresholds=[thresholds])


def http2(options: Http2ProtocolOptions | None = None) -> HttpProtocolOptions:
    """HTTP/2, for gRPC."""
    explicit = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=options or Http2ProtocolOptions())
    return HttpProtocolOptions(explicit_http_config=explicit)


def http1() -> HttpProtocolOptions:
    """HTTP/1.1, for REST."""
    explicit = HttpProtocolOptionsExplicitHttpConfig(
        http_protocol_options=Http1ProtocolOptions(header_key_format=as_written())
    )
    return HttpProtocolOptions(
        common_http_protocol_options=CommonHttpOptions(idle_timeout=seconds(REST_IDLE_SECONDS)),
        explicit_http_config=explicit,
    )
