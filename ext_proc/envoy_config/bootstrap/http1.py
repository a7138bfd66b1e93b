"""HTTP/1.1, on a listener and towards nodes: header names and reason phrases stay as they were written."""

from envoy_data_plane.envoy.config.core.v3 import Http1ProtocolOptions, Http1ProtocolOptionsHeaderKeyFormat
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonHttpOptions
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case.v3 import PreserveCaseFormatterConfig
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)

from ext_proc.envoy_config.parts.text import extension, seconds

# Model servers close an idle HTTP/1.1 connection after 30 s or more (TF Serving). Closing first avoids the
# race in which a call is sent on a connection that is just being closed; such a call could not be repeated.
REST_IDLE_SECONDS = 20.0


def http1_options() -> Http1ProtocolOptions:
    """HTTP/1.1 header names as they were sent, and the reason phrase; Envoy would lower the case."""
    formatter = PreserveCaseFormatterConfig(forward_reason_phrase=True)
    return Http1ProtocolOptions(
        header_key_format=Http1ProtocolOptionsHeaderKeyFormat(
            stateful_formatter=extension("envoy.http.stateful_header_formatters.preserve_case", formatter)
        )
    )


def http1() -> HttpProtocolOptions:
    """HTTP/1.1 towards the endpoints of a cluster, for REST."""
    return HttpProtocolOptions(
        common_http_protocol_options=CommonHttpOptions(idle_timeout=seconds(REST_IDLE_SECONDS)),
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=http1_options()),
    )
