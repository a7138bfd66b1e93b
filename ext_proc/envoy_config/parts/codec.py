"""The HTTP codec of a listener: what it takes and what it refuses before any filter has seen a call.

Envoy's own defaults refuse calls that model servers answer: HTTP/1.0 (426), a hundred headers and more, 60 KiB of them,
an offer to upgrade. What could make two readers of one message disagree about where it ends (both Content-Length and
Transfer-Encoding, two lengths, a length that is no number) stays refused. See docs/limits-of-envoy.md.
"""

from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import Http1ProtocolOptions, Http2ProtocolOptions
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonHttpOptions
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

# Envoy: 100. TF Serving and Triton count none. A thousand lookups in a list are still nothing beside an inference.
MAX_HEADERS = 1000
# Envoy: 60. TF Serving takes any size, Triton any number of headers of 8 KiB. The memory that one connection can claim
# before it is known who calls, so not without bound: with 50,000 connections 256 KiB are 12 GiB.
MAX_HEADERS_KIB = 256
# What an HTTP/1.0 call that names no host is given: HTTP/1.1 towards the node needs one, and nothing looks at it.
HOST_OF_HTTP_1_0 = "tbms"


def common_codec() -> CommonHttpOptions:
    """Both versions of HTTP."""
    return CommonHttpOptions(max_headers_count=MAX_HEADERS)


def http1_codec(options: Http1ProtocolOptions) -> Http1ProtocolOptions:
    """HTTP/1: takes HTTP/1.0, as nginx's proxy_pass and ab speak it, and answers as if no upgrade were offered.

    RFC 9110, 7.8: a server may ignore the offer, and model servers do.
    """
    return replace(
        options,
        accept_http_10=True,
        default_host_for_http_10=HOST_OF_HTTP_1_0,
        ignore_http_11_upgrade=[StringMatcher(safe_regex=RegexMatcher(regex=".*"))],
    )


def http2_codec(streams: int) -> Http2ProtocolOptions:
    """HTTP/2 with so many calls at once on one connection. A gRPC channel may have every one of its calls held at once.

    A malformed message ends its own stream, not the neighbours on the connection.
    """
    return Http2ProtocolOptions(max_concurrent_streams=streams, override_stream_error_on_invalid_http_message=True)
