"""The cluster of the external processor: where Envoy reaches the server, how soon an outage is noticed, and mTLS."""

from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterCommonLbConfig
from envoy_data_plane.envoy.config.core.v3 import DataSource, Http2ProtocolOptions, KeepaliveSettings, TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.parts.cluster_options import HTTP_OPTIONS, breakers, health_checks, http2
from ext_proc.envoy_config.parts.endpoints import assignment, configured_address, discovery
from ext_proc.envoy_config.parts.processor import SERVER_CLUSTER
from ext_proc.envoy_config.parts.server_retries import cluster_retries
from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.settings import ServerTls
from mesh.address import Address


def server_cluster(server: str, tls: ServerTls | None, in_flight: int, version: str) -> Cluster:
    """The cluster of the server at this address (`unix:/path` or `host:port`), for an edge's or a node's Envoy.

    `in_flight` is how many calls at once it takes. Raises ConfigError for an address that Envoy could not use.
    """
    address = configured_address("the server's address", server)
    if address.ip is not None and address.ip.is_unspecified:
        # A server that listens everywhere is reached on this machine.
        address = Address(host="::1" if address.ip.version == 6 else "127.0.0.1", port=address.port)
    http = http2(
        # A frozen server is noticed within two or three seconds.
        Http2ProtocolOptions(connection_keepalive=KeepaliveSettings(interval=seconds(1), timeout=seconds(1)))
    )
    http.retry_policy = cluster_retries(version)
    return Cluster(
        name=SERVER_CLUSTER,
        transport_socket=None if tls is None else _mutual_tls(tls),
        type=discovery(address),
        connect_timeout=seconds(0.25),
        load_assignment=assignment(SERVER_CLUSTER, [address]),
        # Calls wait for a server that restarts. After about five seconds it counts as away, and they no longer
        # wait: plain ones go on at once, until it listens again.
        health_checks=health_checks(1.0, failures=50, when_down=0.1),
        circuit_breakers=breakers(in_flight),
        typed_extension_protocol_options={HTTP_OPTIONS: Any.pack(http)},
        common_lb_config=ClusterCommonLbConfig(healthy_panic_threshold=Percent(value=0)),
    )


def _mutual_tls(files: ServerTls) -> TransportSocket:
    """A TLS socket: Envoy shows its certificate, and takes only a server with that name signed by that authority."""
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
