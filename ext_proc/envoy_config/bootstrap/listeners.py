"""One HTTP listener: an HTTP connection manager that leaves calls as they were written, and the access log."""

from collections.abc import Sequence

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog, AccessLogFilter, LogTypeFilter
from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, VirtualHost
from envoy_data_plane.envoy.data.accesslog.v3 import AccessLogType
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpConnectionManagerHcmAccessLogOptions,
    HttpConnectionManagerInternalAddressConfig,
    HttpFilter,
    LocalReplyConfig,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManagerPathWithEscapedSlashesAction as EscapedSlashes,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManagerServerHeaderTransformation as ServerHeader,
)
from envoy_data_plane.google.protobuf import Any

from ext_proc.envoy_config.bootstrap.http1 import http1_options
from ext_proc.envoy_config.bootstrap.tracing import spans
from ext_proc.envoy_config.parts.codec import MAX_HEADERS_KIB, common_codec, http1_codec, http2_codec
from ext_proc.envoy_config.parts.endpoints import envoy_address
from ext_proc.envoy_config.parts.headers import removed_on_arrival
from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.parts.versions import BodyAccess, body_access
from ext_proc.envoy_config.settings import EnvoySettings
from mesh.address import parse_address

# More than the longest hold, so that no idle timer ends a call that the server still answers in time.
IDLE_MARGIN_SECONDS = 30.0
# Time for a client to send its headers; the body has none.
HEADERS_SECONDS = 30.0
# The permissions of an egress on a Unix socket: whoever may open it passes for the server.
EGRESS_MODE = 0o660
# An empty list of internal addresses would mean every private one.
NOBODY = CidrRange(address_prefix="255.255.255.255", prefix_len=32)


# What Envoy takes in at once of a connection of the server's own. By its default, 1 MiB, the bodies of large candidates
# keep its worker from other calls for several milliseconds at a time.
_EGRESS_AT_ONCE = 128 << 10


def listener(
    name: str,
    where: str,
    settings: EnvoySettings,
    filters: list[HttpFilter],
    removed: tuple[str, ...],
    routes: VirtualHost,
    replies: LocalReplyConfig,
    hold: float,
    calls: Sequence[AccessLog] = (),
    running: float | None = None,
    *,
    others_clusters: bool = False,
) -> Listener:
    """The listener at the address `where`. `removed` are headers that callers may not set, `calls` logs of its calls.

    With `running` a call tells these logs of itself every so many seconds. A call may be held for `hold` seconds: no
    idle timeout ends it earlier. With `others_clusters` its routes lead to clusters that come and go without it: a call
    is answered 503 while its cluster is not there.
    """
    router = HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router(suppress_envoy_headers=True)))
    manager = HttpConnectionManager(
        codec_type=HttpConnectionManagerCodecType.AUTO,
        stat_prefix=name,
        route_config=RouteConfiguration(
            name=name, virtual_hosts=[routes], validate_clusters=False if others_clusters else None
        ),
        http_filters=[*filters, router],
        common_http_protocol_options=common_codec(),
        http_protocol_options=http1_codec(http1_options()),
        http2_protocol_options=http2_codec(settings.limits.streams),
        max_request_headers_kb=MAX_HEADERS_KIB,
        server_header_transformation=ServerHeader.PASS_THROUGH,
        stream_idle_timeout=seconds(hold + IDLE_MARGIN_SECONDS),
        request_headers_timeout=seconds(HEADERS_SECONDS),
        access_log=[*_access_log(settings.access_log, running is not None), *calls],
        access_log_options=None if running is None else _every(running),
        # Nobody is trusted because of an address: x-envoy-* of clients (retries, timeouts) are removed, and
        # x-forwarded-for stays as it came.
        use_remote_address=name != "egress",
        internal_address_config=HttpConnectionManagerInternalAddressConfig(cidr_ranges=[NOBODY]),
        skip_xff_append=True,
        early_header_mutation_extensions=[removed_on_arrival(removed)] if removed else [],
        generate_request_id=settings.request_ids,
        preserve_external_request_id=True,
        # The path is the call: the server judges it, nodes get it as the client wrote it.
        normalize_path=False,
        merge_slashes=False,
        path_with_escaped_slashes_action=EscapedSlashes.KEEP_UNCHANGED,
        local_reply_config=replies,
        tracing=None if settings.tracing is None else spans(settings.tracing, name),
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))]
    )
    address = envoy_address(parse_address(where), EGRESS_MODE if name == "egress" else 0)
    made = Listener(name=name, address=address, filter_chains=[chain])
    if name == "egress":
        made.per_connection_buffer_limit_bytes = _EGRESS_AT_ONCE
    return made


def buffering(made: Listener, settings: EnvoySettings, version: str) -> Listener:
    """The listener, given room for the bodies that its filter buffers.

    Envoy 1.36 applies the route's limit at the router, which is behind the filter that buffers.
    """
    if body_access(version) is BodyAccess.BUFFERED:
        made.per_connection_buffer_limit_bytes = settings.limits.body_buffer_bytes
    return made


def _access_log(path: str | None, ends_only: bool) -> list[AccessLog]:
    if path is None:
        return []
    log = AccessLog(name="envoy.access_loggers.file", typed_config=Any.pack(FileAccessLog(path=path)))
    if ends_only:
        log.filter = AccessLogFilter(log_type_filter=LogTypeFilter(types=[AccessLogType.DownstreamEnd]))
    return [log]


def _every(period: float) -> HttpConnectionManagerHcmAccessLogOptions:
    return HttpConnectionManagerHcmAccessLogOptions(access_log_flush_interval=seconds(period))
