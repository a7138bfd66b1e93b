"""The edge's bootstrap: its listeners and clusters by reading it, its validity by asking real Envoys."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from ext_proc.envoy_config import EnvoySettings, render, render_endpoints
from ext_proc.envoy_config.parts.cluster_options import LOST_SECONDS
from ext_proc.envoy_config.settings import EnvoyTracing
from ext_proc.errors import ConfigError
from mesh.node import Node
from tests.ext_proc.envoy_config.documents import (
    ENVOY_FOLDER,
    NODES,
    SOCKET,
    VERSIONS,
    Document,
    cluster,
    edge_document,
    everything,
    manager,
    read,
    validate,
)


def test_paths_and_headers_stay_as_they_were_written() -> None:
    config = manager(edge_document())
    assert config["normalize_path"] is False
    assert "merge_slashes" not in config
    assert config["path_with_escaped_slashes_action"] == "KEEP_UNCHANGED"
    assert config["server_header_transformation"] == "PASS_THROUGH"
    assert config["skip_xff_append"] is True
    assert config["http_filters"][-1]["typed_config"]["suppress_envoy_headers"] is True


def leading(host: Document) -> list[Document]:
    """The routes that lead to nodes."""
    return [route for route in host["routes"] if "route" in route]


def test_grpc_and_rest_go_to_clusters_of_their_own() -> None:
    (host,) = manager(edge_document())["route_config"]["virtual_hosts"]
    for route in leading(host):
        assert route["route"]["cluster"] == ("models_grpc" if "grpc" in route["match"] else "models_rest")
    assert [route["match"] for route in leading(host) if route["match"].get("prefix") == "/"] == [
        {"prefix": "/", "grpc": {}},
        {"prefix": "/"},
    ]


def test_only_1_36_raises_the_limit_of_the_connection() -> None:
    """Its filter buffers before the route's limit is applied. What the server sends comes in small pieces."""
    for version in VERSIONS:
        limits = [
            entry.get("per_connection_buffer_limit_bytes") for entry in everything(edge_document(version=version))
        ]
        expected = [64 << 20, 128 << 10] if version == "1.36" else [128 << 10]
        assert [limit for limit in limits if limit] == expected


def hosts(assignment: Document) -> list[Document]:
    return [
        host["endpoint"]["address"]["socket_address"]
        for group in assignment.get("endpoints", [])
        for host in group["lb_endpoints"]
    ]


def test_nodes_are_endpoints_by_protocol() -> None:
    nodes = [*NODES, Node("c", grpc="[2001:db8::1]:8500"), Node("d", rest="10.0.0.4:8501"), Node("e")]
    document = read(render(EnvoySettings(), version="1.40", server=SOCKET, nodes=nodes))
    expected = {
        "models_grpc": [("10.0.0.1", 8500), ("10.0.0.2", 8500), ("2001:db8::1", 8500)],
        "models_rest": [("10.0.0.1", 8501), ("10.0.0.2", 8501), ("10.0.0.4", 8501)],
    }
    files = render_endpoints(nodes)
    assert set(files) == {f"{name}.yaml" for name in expected}
    for name, places in expected.items():
        inline = hosts(cluster(document, name)["load_assignment"])
        assert [(host["address"], host["port_value"]) for host in inline] == places
        (resource,) = read(files[f"{name}.yaml"])["resources"]
        assert resource["cluster_name"] == name
        assert hosts(resource) == inline


@pytest.mark.parametrize(
    "bad", ["tfs.local:8500", "10.0.0.1", "10.0.0.1:70000", "[2001:DB8::1]:8500", "10.0.0.1:08500"]
)
def test_a_node_that_envoy_would_spell_otherwise_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="node 'n'"):
        render(EnvoySettings(), version="1.40", server=SOCKET, nodes=[Node("n", grpc=bad)])
    with pytest.raises(ConfigError, match="node 'n'"):
        render_endpoints([Node("n", rest=bad)])


def test_rendering_is_stable() -> None:
    assert render(EnvoySettings(), version="1.38", server=SOCKET, nodes=NODES) == render(
        EnvoySettings(), version="1.38.3", server=SOCKET, nodes=NODES
    )


def test_committed_files_are_up_to_date() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in ENVOY_FOLDER.glob("*.yaml")}
    expected = runpy.run_path(str(ENVOY_FOLDER / "generate.py"))["renderings"]()
    assert files == expected, "run `make envoy-configs`"


@pytest.mark.envoy
@pytest.mark.parametrize("version", VERSIONS)
def test_real_envoys_accept_the_committed_files(version: str) -> None:
    validate(version, ENVOY_FOLDER / f"edge-{version}.yaml")


OPTIONS: dict[str, dict[str, Any]] = {
    "tcp server": {"server": "127.0.0.1:9000"},
    "named server": {"server": "tbms.local:9000"},
    "ipv6": {
        "nodes": [Node("n", grpc="[2001:db8::1]:8500", rest="[::1]:8501")],
        "settings": {"listen": "[::]:8080", "egress": "[::1]:8090", "admin": "[::1]:9901"},
    },
    "grpc only": {"nodes": [Node("n", grpc="10.0.0.1:8500")]},
    "rest only": {"nodes": [Node("n", rest="10.0.0.1:8501")]},
    "one endpoint twice": {"nodes": [Node("n", rest="10.0.0.1:8501"), Node("m", rest="10.0.0.1:8501")]},
    "no nodes": {"nodes": []},
    "unix listeners": {"settings": {"egress": "unix:/tmp/tbms-egress.sock", "admin": "unix:/tmp/tbms-admin.sock"}},
    "everything on": {
        "settings": {
            "direct_listen": "127.0.0.1:8081",
            "access_log": "/dev/null",
            "upstream_header": True,
            "watch_responses": True,
            "health_seconds": 0,
            "tracing": {"collector": "collector.example:4318", "sample_ratio": 0.01},
            "request_ids": False,
            "body_models": ["a b", "x(y)*", "modèle", "percent%41"],
            "limits": {"longest_tloc_seconds": 0.5, "in_flight": 1, "connections": 1, "streams": 1},
        }
    },
}


@pytest.mark.envoy
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("option", OPTIONS)
def test_real_envoys_accept_every_option(version: str, option: str, tmp_path: Path) -> None:
    chosen_options = OPTIONS[option]
    settings = EnvoySettings.model_validate(chosen_options.get("settings", {}))
    config = tmp_path / "envoy.yaml"
    server, nodes = chosen_options.get("server", SOCKET), chosen_options.get("nodes", NODES)
    config.write_text(render(settings, version=version, server=server, nodes=nodes), encoding="utf-8")
    validate(version, config)


@pytest.mark.envoy
@pytest.mark.parametrize("version", VERSIONS)
def test_real_envoys_accept_endpoint_files(version: str, tmp_path: Path) -> None:
    for name, text in render_endpoints(NODES).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    config = tmp_path / "envoy.yaml"
    settings = EnvoySettings(endpoints_dir=str(tmp_path))
    config.write_text(render(settings, version=version, server=SOCKET, nodes=()), encoding="utf-8")
    validate(version, config)


def test_a_node_of_another_zone_has_routes_and_clusters_of_its_own() -> None:
    far = Node("node-c", "10.9.0.1:30001", "10.9.0.1:30002", "zone-2", reached_by="header")
    unknown = Node("node-d", zone="zone-2", reached_by="header", speaks=frozenset({"rest"}))
    document = read(render(EnvoySettings(), version="1.40", server=SOCKET, nodes=[*NODES, far, unknown]))
    (host,) = manager(document)["route_config"]["virtual_hosts"]
    to_grpc, to_rest, nowhere, *others = host["routes"]
    named = {"name": "x-tbms-node", "string_match": {"exact": "node-c"}}
    assert [route["match"]["headers"] for route in (to_grpc, to_rest)] == [[named], [named]]
    assert [route["route"]["cluster"] for route in (to_grpc, to_rest)] == ["models_grpc@node-c", "models_rest@node-c"]
    assert ("grpc" in to_grpc["match"], "grpc" in to_rest["match"]) == (True, False)
    assert nowhere["match"]["headers"] == [{"name": "x-tbms-node", "present_match": True}]
    assert nowhere["direct_response"]["status"] == 503
    assert all("headers" not in route["match"] for route in others)
    assert hosts(cluster(document, "models_rest@node-c")["load_assignment"]) == [
        {"address": "10.9.0.1", "port_value": 30002}
    ]
    for name in ("models_grpc", "models_rest"):
        assert len(hosts(cluster(document, name)["load_assignment"])) == len(NODES), "the others are as they were"
    assert "30001" not in "".join(render_endpoints([*NODES, far]).values())


def test_connections_to_nodes_carry_fewer_calls_than_an_envoy_closes_one_for() -> None:
    options = cluster(edge_document(), "models_grpc")["typed_extension_protocol_options"]
    (http,) = options.values()
    assert 2 * int(http["common_http_protocol_options"]["max_requests_per_connection"]) < 500


def test_connections_to_hosts_that_are_lost_are_given_up() -> None:
    far = Node("node-z", "192.0.2.1:30000", "192.0.2.1:30001", "zone-2", reached_by="header")
    document = read(render(EnvoySettings(), version="1.40", server=SOCKET, nodes=[*NODES, far]))
    for name in ("models_grpc", "models_rest", "models_grpc@node-z", "models_rest@node-z"):
        found = cluster(document, name)
        probes = found["upstream_connection_options"]["tcp_keepalive"]
        silence = probes["keepalive_time"] + probes["keepalive_probes"] * probes["keepalive_interval"]
        assert silence == LOST_SECONDS
        # Over HTTP/1.1 a window that a held call leaves shut would count as silence.
        options = found.get("upstream_bind_config", {}).get("socket_options", [])
        of_http2 = [("6", "18", str(LOST_SECONDS * 1000))] if "grpc" in name else []
        assert [(each["level"], each["name"], each["int_value"]) for each in options] == of_http2


def test_only_on_a_unix_socket_the_servers_header_is_believed() -> None:
    for egress, removed in (("127.0.0.1:8090", True), ("unix:/run/tbms/egress.sock", False)):
        config = manager(edge_document(EnvoySettings(egress=egress)), "egress")
        assert ("early_header_mutation_extensions" in config) is removed


def test_envoys_own_spans_are_made_where_they_are_asked_for_and_a_caller_decides_for_its_call() -> None:
    traced = EnvoySettings(tracing=EnvoyTracing(collector="127.0.0.1:4318", sample_ratio=0.01, service_name="e"))
    listeners = edge_document(traced)["static_resources"]["listeners"]
    services = []
    for each in listeners:
        tracing = each["filter_chains"][0]["filters"][0]["typed_config"]["tracing"]
        config = tracing["provider"]["typed_config"]
        services.append(config["service_name"])
        assert config["http_service"]["http_uri"]["cluster"] == "tbms_collector"
        assert config["sampler"]["name"].endswith("samplers.parent_based")
        share = config["sampler"]["typed_config"]["wrapped_sampler"]["typed_config"]["sampling_percentage"]
        assert share == {"numerator": 10_000, "denominator": "MILLION"}
        assert "random_sampling" not in tracing, "it would decide for callers as well"
    assert services == ["e-clients", "e-egress"]
    assert cluster(edge_document(traced), "tbms_collector")["type"] == "STATIC"
    assert "tracing" not in manager(edge_document())
