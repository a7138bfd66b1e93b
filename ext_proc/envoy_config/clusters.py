"""Where calls can go: the nodes, by protocol, and the server."""

from collections.abc import Iterable, Sequence

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    LoadBalancingPolicy,
    LoadBalancingPolicyPolicy,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    ApiVersion,
    ConfigSource,
    DataSource,
    HealthCheck,
    HealthCheckTcpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    KeepaliveSettings,
    PathConfigSource,
    Pipe,
    SocketAddress,
    TcpKeepalive,
    TransportSocket,
    WatchedDirectory,
)
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonHttpOptions
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.load_balancing_policies.least_request.v3 import LeastRequest
from envoy_data_plane.envoy.extensions.load_balancing_policies.override_host.v3 import (
    OverrideHost,
    OverrideHostOverrideHostSource,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.metadata.v3 import MetadataKey, MetadataKeyPathSegment
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.address import Place, endpoint, place
from ext_proc.envoy_config.headers import as_written
from ext_proc.envoy_config.processor import METADATA_KEY, METADATA_NAMESPACE, SERVER_CLUSTER
from ext_proc.envoy_config.settings import EnvoySettings, ServerTls
from ext_proc.envoy_config.text import extension, seconds
from ext_proc.errors import ConfigError
from mesh.node import Node

GRPC_CLUSTER = "models_grpc"
REST_CLUSTER = "models_rest"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Model servers close an idle HTTP/1.1 connection after 30 s or more (TF Serving). Closing first avoids the
# race in which a call is sent on a connection that is just being closed; such a call could not be repeated.
REST_IDLE_SECONDS = 20.0


def clusters(settings: EnvoySettings, server: str, nodes: Sequence[Node]) -> list[Cluster]:
    """Every cluster of the bootstrap. Raises ConfigError for an endpoint that Envoy could not use."""
    return [
        _models(GRPC_CLUSTER, settings, nodes, http2()),
        _models(REST_CLUSTER, settings, nodes, http1()),
        server_cluster(settings, server),
    ]


def discovery_responses(nodes: Sequence[Node]) -> dict[str, DiscoveryResponse]:
    """The endpoint files that Envoy watches: file name -> content."""
    return {
        f"{name}.yaml": DiscoveryResponse(resources=[Any.pack(assignment(name, _endpoints(name, nodes)))])
        for name in (GRPC_CLUSTER, REST_CLUSTER)
    }


def address(where: Place) -> Address:
    """A place as Envoy's type."""
    if where.path:
        return Address(pipe=Pipe(path=where.path))
    return Address(socket_address=SocketAddress(address=where.host, port_value=where.port))


def _models(name: str, settings: EnvoySettings, nodes: Sequence[Node], http: HttpProtocolOptions) -> Cluster:
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(0.5),
        health_checks=_health(settings.health_seconds),
        circuit_breakers=breakers(settings),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
        # With every node down a call fails at once, rather than being sent to a dead one.
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
        upstream_connection_options=UpstreamConnectionOptions(
            tcp_keepalive=TcpKeepalive(keepalive_probes=3, keepalive_time=10, keepalive_interval=5)
        ),
        # The list of nodes is the truth, even for a node that still answers health checks.
        ignore_health_on_host_removal=True,
        load_balancing_policy=_chosen_by_server(),
    )
    if settings.endpoints_dir is None:
        cluster.load_assignment = assignment(name, _endpoints(name, nodes))
        return cluster
    cluster.type = ClusterDiscoveryType.EDS
    folder = settings.endpoints_dir.rstrip("/")
    source = PathConfigSource(path=f"{folder}/{name}.yaml", watched_directory=WatchedDirectory(path=folder))
    cluster.eds_cluster_config = ClusterEdsClusterConfig(
        eds_config=ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)
    )
    return cluster


def _chosen_by_server() -> LoadBalancingPolicy:
    """The nodes that the server named, in order; any healthy one where it named none, or none that is healthy.

    There is no header among the sources: a client's own header would be obeyed.
    """
    path = [MetadataKeyPathSegment(key=METADATA_KEY)]
    override = OverrideHost(
        override_host_sources=[OverrideHostOverrideHostSource(metadata=MetadataKey(key=METADATA_NAMESPACE, path=path))],
        fallback_policy=_policy("envoy.load_balancing_policies.least_request", LeastRequest()),
    )
    return _policy("envoy.load_balancing_policies.override_host", override)


def _policy(name: str, config: OverrideHost | LeastRequest) -> LoadBalancingPolicy:
    return LoadBalancingPolicy(policies=[LoadBalancingPolicyPolicy(typed_extension_config=extension(name, config))])


def server_cluster(settings: EnvoySettings, server: str) -> Cluster:
    """Where the external processor is. Raises ConfigError for an address that Envoy could not use."""
    try:
        where = place(server)
    except ValueError as error:
        raise ConfigError(f"the server's address: {error}") from None
    if where.ip is not None and where.ip.is_unspecified:
        # A server that listens everywhere is reached on this machine.
        where = Place(host="::1" if where.ip.version == 6 else "127.0.0.1", port=where.port)
    is_name = not where.path and where.ip is None
    http = http2(
        # A frozen server is noticed within two or three seconds.
        Http2ProtocolOptions(connection_keepalive=KeepaliveSettings(interval=seconds(1), timeout=seconds(1)))
    )
    return Cluster(
        name=SERVER_CLUSTER,
        transport_socket=None if settings.server_tls is None else _mutual_tls(settings.server_tls),
        type=ClusterDiscoveryType.STRICT_DNS if is_name else ClusterDiscoveryType.STATIC,
        connect_timeout=seconds(0.25),
        load_assignment=assignment(SERVER_CLUSTER, [where]),
        # Calls wait for a server that restarts. After about five seconds it counts as away, and they no longer
        # wait: plain ones go on at once, until it listens again.
        health_checks=_health(1.0, failures=50, when_down=0.1),
        circuit_breakers=breakers(settings),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
    )


def _mutual_tls(files: ServerTls) -> TransportSocket:
    """Envoy shows its certificate, and takes only a server with that name signed by that authority."""
    names = SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=files.name))
    own = TlsCertificate(
        certificate_chain=DataSource(filename=files.certificate), private_key=DataSource(filename=files.key)
    )
    context = UpstreamTlsContext(
        sni=files.name,
        common_tls_context=CommonTlsContext(
            alpn_protocols=["h2"],
            tls_certificates=[own],
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(filename=files.ca), match_typed_subject_alt_names=[names]
            ),
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))


def _health(interval: float, failures: int = 2, when_down: float | None = None) -> list[HealthCheck]:
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


def _endpoints(cluster: str, nodes: Sequence[Node]) -> list[Place]:
    found = []
    for node in nodes:
        text = node.grpc if cluster == GRPC_CLUSTER else node.rest
        if text is None:
            continue
        try:
            found.append(endpoint(text))
        except ValueError as error:
            raise ConfigError(f"node {node.id!r}: {error}") from None
    return list(dict.fromkeys(found))


def assignment(cluster: str, places: Iterable[Place]) -> ClusterLoadAssignment:
    """The endpoints of a cluster."""
    hosts = [LbEndpoint(endpoint=Endpoint(address=address(where))) for where in places]
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=hosts)] if hosts else []
    )
