"""Options that clusters have in common: HTTP/2 towards the endpoints, circuit breakers, health checks, lost hosts."""

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    BindConfig,
    HealthCheck,
    HealthCheckTcpHealthCheck,
    Http2ProtocolOptions,
    SocketOption,
    TcpKeepalive,
)
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonHttpOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)

from ext_proc.envoy_config.parts.text import seconds

# Calls on one HTTP/2 connection to a node, after which another one is made. The node's Envoy, which may be a sidecar of
# a mesh, closes a connection on which 250 streams were reset soon after they began, if those are half of its streams,
# and fails every call on it. Losers of races are reset so: on a connection of fewer calls they cannot be that many.
CALLS_A_CONNECTION = 200

# A host that is lost without a word (its power, its network) has been silent for so long when its connections are given
# up and their calls end. An inference that takes longer does no harm: the kernel of its host answers.
LOST_SECONDS = 25
_PROBES, _PROBE_SECONDS = 3, 5
_IPPROTO_TCP, _TCP_USER_TIMEOUT = 6, 18  # of Linux

# The key of a cluster's HTTP options among its `typed_extension_protocol_options`.
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def health_checks(interval: float, failures: int = 2, when_down: float | None = None) -> list[HealthCheck]:
    """A TCP health check: opens a connection every `interval` seconds, and every `when_down` seconds once that failed.

    An endpoint is down after `failures` failed connections, and up again after one good one. Interval 0: no check.
    """
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


def breakers(in_flight: int) -> CircuitBreakers:
    """Circuit breakers that open at `in_flight` calls.

    Envoy's own defaults (1024; 3 retries) would shed calls that the server meant to hold.
    """
    thresholds = CircuitBreakersThresholds(
        max_connections=in_flight, max_pending_requests=in_flight, max_requests=in_flight, max_retries=in_flight
    )
    return CircuitBreakers(thresholds=[thresholds])


def notice_lost_hosts(cluster: Cluster, *, by_http2: bool) -> None:
    """Has a cluster give up connections to hosts that have been silent for LOST_SECONDS.

    Where a call waits for its reply probes of the kernel find that out (keepalive). While bytes are on their way that
    nobody acknowledges it sends none, but repeats them for a quarter of an hour: that is bounded for HTTP/2 only. A
    host that reads no more of a long HTTP/1.1 body, since it holds the call, would count as lost, too.
    """
    probes = TcpKeepalive(
        keepalive_probes=_PROBES,
        keepalive_time=LOST_SECONDS - _PROBES * _PROBE_SECONDS,
        keepalive_interval=_PROBE_SECONDS,
    )
    cluster.upstream_connection_options = UpstreamConnectionOptions(tcp_keepalive=probes)
    if not by_http2:
        return
    unacknowledged = SocketOption(
        description="TCP_USER_TIMEOUT", level=_IPPROTO_TCP, name=_TCP_USER_TIMEOUT, int_value=LOST_SECONDS * 1000
    )
    cluster.upstream_bind_config = BindConfig(socket_options=[unacknowledged])


def http2(options: Http2ProtocolOptions | None = None, most_calls: int | None = None) -> HttpProtocolOptions:
    """HTTP/2 towards the endpoints, for gRPC; with at most so many calls on one connection."""
    explicit = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=options or Http2ProtocolOptions())
    common = None if most_calls is None else CommonHttpOptions(max_requests_per_connection=most_calls)
    return HttpProtocolOptions(common_http_protocol_options=common, explicit_http_config=explicit)
