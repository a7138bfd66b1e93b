"""MeshProxyPatch: what an edge's, a node's and a gateway's sidecar get."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from ext_proc.contract import HOP_HEADER, KNOWN_FILTER, KNOWN_KEY, NAMED_HEADER, NODE_HEADER, STEERING_HEADERS
from ext_proc.envoy_config import EnvoySettings, GatheredCalls
from ext_proc.kuma.rendering.description import EGRESS, KNOWN_MAP, Environment, MeshDescription, Port, RemoteNode
from ext_proc.kuma.rendering.names import Naming
from ext_proc.kuma.rendering.patches import edge_patch, node_patch
from ext_proc.kuma.rendering.versions import KumaVersion
from tests.ext_proc.envoy_config.documents import everything, holds
from tests.ext_proc.kuma.rendering.documents import FOLDERS, Document, modifications

MESH = MeshDescription(KumaVersion.V2_14, Environment.UNIVERSAL)
ROUTER = "envoy.filters.http.router"
KRI = "kri_msvc_default_default__models_8501"


def found(folder: str, role: str, name: str, **match: Any) -> list[Document]:
    return [
        content
        for each, content in modifications(folder, role)
        if each == name and all(content.get("match", {}).get(key) == value for key, value in match.items())
    ]


def edge(mesh: MeshDescription) -> list[tuple[str, Document]]:
    return _read(edge_patch(mesh).text(mesh))


def node(mesh: MeshDescription) -> list[tuple[str, Document]]:
    return _read(node_patch(mesh).text(mesh))


def _read(text: str) -> list[tuple[str, Document]]:
    items = [next(iter(each.items())) for each in yaml.safe_load(text)["spec"]["default"]["appendModifications"]]
    return [(name, content | {"value": yaml.safe_load(content["value"])}) for name, content in items]


def listeners(patch: list[tuple[str, Document]]) -> list[Document]:
    return [content["value"] for name, content in patch if name == "listener" and content["operation"] == "Add"]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("role", ["edge", "node", "gateway"])
def test_filters_stand_right_before_the_router(folder: str, role: str) -> None:
    """So behind RBAC: whom the mesh denies the server never hears of. AddFirst would stand before it."""
    filters = found(folder, role, "httpFilter")
    assert filters
    for content in filters:
        assert content["operation"] == "AddBefore"
        assert content["match"]["name"] == ROUTER
    assert filters[-1]["value"]["name"] == "tbms"  # what asks the server comes last


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_edge_is_patched_where_it_calls_the_models_and_nowhere_else(folder: str) -> None:
    for name, content in modifications(folder, "edge"):
        match = content.get("match")
        if match is None:
            assert content["operation"] == "Add"
        elif name == "listener":
            assert match["tags"]["kuma.io/unified-name"].startswith("kri_msvc_default_default_")
        elif name in ("httpFilter", "networkFilter"):
            assert match["origin"] == "outbound"
            assert re.fullmatch(
                r"kri_msvc_default_default_(ml)?_models_\w+", match["listenerTags"]["kuma.io/unified-name"]
            )
        elif name == "virtualHost":
            assert match["routeConfigurationName"].startswith("kri_msvc_default_default_")
        else:
            assert match["origin"] == "outbound"
            assert "models" in match["name"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_clusters_are_found_by_every_name_that_this_kuma_may_give_them(folder: str) -> None:
    names = {content["match"]["name"] for content in found(folder, "edge", "cluster", origin="outbound")}
    namespace, sections = ("ml", ("http", "grpc")) if folder.startswith("kubernetes") else ("", ("8501", "8500"))
    expected = {f"kri_msvc_default_default_{namespace}_models_{section}" for section in sections}
    if "3.0" not in folder:
        expected |= {f"default_models_{namespace}_default_msvc_{port}" for port in (8501, 8500)}
    assert names == expected


def test_a_patch_of_a_cluster_says_nothing_of_its_type_or_name() -> None:
    """It is merged into the cluster: a field with its default would be one more than was meant."""
    for content in found("universal/2.14", "edge", "cluster", origin="outbound"):
        assert set(content["value"]) == {
            "load_balancing_policy", "typed_extension_protocol_options", "upstream_bind_config",
            "upstream_connection_options",
        }  # fmt: skip


def test_a_connection_ends_before_the_losers_of_races_can_end_it() -> None:
    """Envoy closes one on which 251 streams were reset early. An entry of this map takes the place of Kuma's whole."""
    for content in found("universal/2.14", "edge", "cluster", origin="outbound"):
        (options,) = content["value"]["typed_extension_protocol_options"].values()
        assert options["common_http_protocol_options"]["max_requests_per_connection"] <= 250
        assert options["common_http_protocol_options"]["idle_timeout"] == "3600s"
        assert options["explicit_http_config"] == {"http2_protocol_options": {}}


def test_hosts_that_are_lost_are_given_up() -> None:
    """Between sidecars all is HTTP/2."""
    for content in found("universal/2.14", "edge", "cluster", origin="outbound"):
        assert content["value"]["upstream_connection_options"]["tcp_keepalive"]
        (option,) = content["value"]["upstream_bind_config"]["socket_options"]
        assert option["description"] == "TCP_USER_TIMEOUT"


def test_ordinary_changes_never_touch_the_servers_cluster() -> None:
    """A change of it cuts held calls: it is the same whatever nodes, zones, models and ports there are."""
    other = replace(
        MESH,
        zone="zone-7",
        service="triton",
        ports=(Port("http", 8000, "http"),),
        remote_nodes=(RemoteNode("node-c", "zone-2"),),
        known=KNOWN_MAP,
        envoy=EnvoySettings(egress=EGRESS, body_models=("bert",)),
    )
    clusters = [content for name, content in edge(MESH) if name == "cluster" and content["operation"] == "Add"]
    assert clusters == [content for name, content in edge(other) if name == "cluster" and content["operation"] == "Add"]
    (threshold,) = clusters[0]["value"]["circuit_breakers"]["thresholds"]
    assert threshold["max_requests"] == 100_000


def removed(patch: Document) -> set[str]:
    (extension,) = patch["value"]["typed_config"]["early_header_mutation_extensions"]
    return {each["remove"] for each in extension["typed_config"].get("mutations", ())}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nobody_can_steer_from_outside(folder: str) -> None:
    for patch in found(folder, "edge", "networkFilter"):
        assert removed(patch) == {*STEERING_HEADERS, NAMED_HEADER}
    for patch in found(folder, "node", "networkFilter"):
        assert removed(patch) == {NODE_HEADER, HOP_HEADER}
    (host,) = found(folder, "node", "virtualHost")
    assert set(STEERING_HEADERS) <= set(host["value"]["request_headers_to_remove"])
    for host in found(folder, "edge", "virtualHost"):
        assert {NODE_HEADER, HOP_HEADER, NAMED_HEADER} <= set(host["value"]["request_headers_to_remove"])


def test_at_a_builtin_gateway_the_servers_own_calls_keep_their_mark() -> None:
    (patch,) = found("universal/2.14", "gateway", "networkFilter")
    assert removed(patch) == {NODE_HEADER, NAMED_HEADER}


@pytest.mark.parametrize("environment", ["kubernetes", "universal"])
def test_a_gateway_is_builtin_before_3_0_and_a_sidecar_from_there_on(environment: str) -> None:
    for version in ("2.13", "2.14"):
        assert {
            content.get("match", {}).get("origin")
            for _, content in modifications(f"{environment}/{version}", "gateway")
        } == {
            None,
            "gateway",
        }
    assert modifications(f"{environment}/3.0", "gateway") == modifications(f"{environment}/3.0", "edge")


def branches(filters: list[Document]) -> str:
    return str([each for each in filters if each["value"]["name"] == "tbms"])


def test_each_kuma_gets_the_filter_for_its_envoy() -> None:
    """1.36 buffers what 1.37 and later stream."""
    for folder, version in (("universal/2.13", "1.36"), ("universal/2.14", "1.38"), ("universal/3.0", "1.39")):
        text = branches(found(folder, "edge", "httpFilter"))
        assert f"'authority': 'tbms-envoy-{version}'" in text
        assert ("BUFFERED" in text) is (version == "1.36")
        assert "FULL_DUPLEX_STREAMED" in text


def _file_of(known: Document) -> str:
    """The file that this filter has what it does from."""
    (once_there,) = known["typed_config"]["xds_matcher"].values()
    source = once_there["action"]["typed_config"]["dynamic_config"]["config_discovery"]["config_source"]
    return str(source["path_config_source"]["path"])


def test_the_map_and_what_reads_grpc_names_are_there_where_it_is_on() -> None:
    mesh = replace(MESH, known=KNOWN_MAP)
    names = [content["value"]["name"] for name, content in edge(mesh) if name == "httpFilter"]
    http, grpc = names[: names.index("tbms") + 1], names[names.index("tbms") + 1 :]
    assert http[-2:] == ["tbms-known", "tbms"]
    assert grpc[-5:] == ["tbms-whole-message", "tbms-grpc-name", "tbms-known", "tbms-told", "tbms"]
    (made,) = [c["value"] for n, c in edge(mesh) if n == "httpFilter" and c["value"]["name"] == "tbms-known"][:1]
    assert _file_of(made) == KNOWN_MAP
    assert not any("known" in content["value"]["name"] for name, content in edge(MESH) if name == "httpFilter")


def test_calls_that_only_read_are_asked_again_where_their_node_died() -> None:
    (first,) = [content["value"] for _, content in edge(MESH) if content["value"].get("name") == "tbms-repeat-lost"]
    (matcher,) = first["typed_config"]["xds_matcher"]["matcher_list"]["matchers"]
    rest, grpc = {"content-type": "application/json"}, {"content-type": "application/grpc"}
    for path in ("/v1/models/m:predict", "/v2/models/m/infer?x=1"):
        assert holds(matcher["predicate"], rest | {":path": path})
    for path in ("/tensorflow.serving.PredictionService/Predict", "/inference.GRPCInferenceService/ModelInfer"):
        assert holds(matcher["predicate"], grpc | {":path": path})
    for path in ("/inference.GRPCInferenceService/ModelStreamInfer", "/tensorflow.serving.SessionService/SessionRun"):
        assert not holds(matcher["predicate"], grpc | {":path": path})
    assert not holds(matcher["predicate"], rest | {":path": "/v2/repository/models/m/load"})
    text = str(matcher["on_match"])
    assert "'x-envoy-retry-on'" in text
    assert "'reset'" in text
    rest_host, grpc_host = (content["value"] for name, content in edge(MESH) if name == "virtualHost")
    assert "reset" in rest_host["retry_policy"]["retry_on"].split(",")
    prefix, regex = (each["string_match"] for each in rest_host["retry_policy"]["retriable_request_headers"])
    assert "/v1/models/m:predict".startswith(prefix["prefix"])
    assert re.fullmatch(regex["safe_regex"]["regex"], "/v2/models/m/infer")
    assert not re.fullmatch(regex["safe_regex"]["regex"], "/v2/repository/models/m/load")
    assert "reset" not in grpc_host["retry_policy"]["retry_on"].split(",")
    quiet = replace(MESH, envoy=EnvoySettings(egress=EGRESS, repeat_lost=False))
    assert not any(content["value"].get("name") == "tbms-repeat-lost" for _, content in edge(quiet))


def test_the_egress_is_a_socket_and_leads_to_the_meshs_clusters() -> None:
    (legacy,) = listeners(edge(MESH))
    assert legacy["address"] == {"pipe": {"path": "/run/tbms/egress.sock", "mode": 0o660}}
    clusters = {each["cluster"] for each in everything(legacy) if "cluster" in each}
    assert clusters == {"default_models__default_msvc_8501", "default_models__default_msvc_8500"}
    (kri,) = listeners(edge(replace(MESH, naming=Naming.KRI)))
    assert {each["cluster"] for each in everything(kri) if "cluster" in each} == {KRI, KRI.replace("8501", "8500")}
    assert [each["validate_clusters"] for each in everything(legacy) if "validate_clusters" in each] == [False]


def test_candidates_find_nodes_of_other_zones_by_the_header() -> None:
    (listener,) = listeners(edge(replace(MESH, remote_nodes=(RemoteNode("node-c", "zone-2"),))))
    routes = next(each["routes"] for each in everything(listener) if "routes" in each)
    *named, nowhere = [each for each in routes if "headers" in each["match"]]
    assert routes[: len(named) + 1] == [*named, nowhere]
    assert nowhere["direct_response"]["status"] == 503  # a node that no route leads to: asked elsewhere
    assert [each["match"]["headers"] for each in named] == [
        [{"name": NODE_HEADER, "string_match": {"exact": "node-c"}}]
    ] * 2
    assert {each["route"]["cluster"] for each in named} == {
        "default_node-c__zone-2_msvc_8501",
        "default_node-c__zone-2_msvc_8500",
    }


def test_a_node_that_batches_has_an_egress_to_its_model_server() -> None:
    assert not listeners(node(MESH))
    ports = (Port("http", 8501, "http", 18501), Port("grpc", 8500, "grpc"))
    (legacy,) = listeners(node(replace(MESH, ports=ports, gathered=GatheredCalls(any_model=True))))
    assert {each["cluster"] for each in everything(legacy) if "cluster" in each} == {
        "localhost:18501",
        "localhost:8500",
    }
    (kri,) = listeners(node(replace(MESH, naming=Naming.KRI, gathered=GatheredCalls(any_model=True))))
    assert {each["cluster"] for each in everything(kri) if "cluster" in each} == {
        "self_inbound_dp_http",
        "self_inbound_dp_grpc",
    }


def test_a_fleet_of_one_protocol_gets_routes_for_it_alone() -> None:
    patch = edge(replace(MESH, ports=(Port("grpc", 8001, "grpc"),)))
    (listener,) = listeners(patch)
    assert {each["cluster"] for each in everything(listener) if "cluster" in each} == {
        "default_models__default_msvc_8001"
    }


def test_an_envoy_that_buffers_bodies_is_given_room_for_them() -> None:
    old = [c for n, c in modifications("universal/2.13", "edge") if n == "listener" and c["operation"] == "Patch"]
    assert [each["value"] for each in old] == [{"per_connection_buffer_limit_bytes": 64 << 20}] * 2
    assert len([c for n, c in modifications("universal/2.13", "gateway") if n == "listener"]) == 1
    assert all(
        content["operation"] == "Add" for n, content in modifications("universal/2.14", "edge") if n == "listener"
    )
    gathered = replace(MESH, kuma=KumaVersion.V2_13, gathered=GatheredCalls(any_model=True))
    assert sum(name == "listener" for name, _ in node(gathered)) == 2
    assert not any(name == "listener" for name, _ in node(replace(gathered, gathered=None)))


def test_a_nodes_map_stands_behind_rbac_and_before_what_asks() -> None:
    plain, knows = node(MESH), node(replace(MESH, known_at_nodes=KNOWN_MAP))
    filters = [content["value"] for name, content in knows if name == "httpFilter"]
    assert _file_of(filters[0]) == KNOWN_MAP
    assert [made["name"] for made in filters] == [KNOWN_FILTER, "tbms"]
    assert KNOWN_KEY in str(filters[1])
    assert [name for name, _ in knows if name != "httpFilter"] == [name for name, _ in plain if name != "httpFilter"]


def test_with_a_map_a_nodes_envoy_tells_of_calls_that_ended_and_of_those_that_run() -> None:
    def manager(mesh: MeshDescription) -> Document:
        (found,) = [content["value"]["typed_config"] for name, content in node(mesh) if name == "networkFilter"]
        return dict(found)

    knows, plain = manager(replace(MESH, known_at_nodes=KNOWN_MAP)), manager(MESH)
    assert "DownstreamPeriodic" in str(knows["access_log"])
    assert knows["access_log_options"] == {"access_log_flush_interval": "0.250s"}
    assert not plain.keys() & {"access_log", "access_log_options"}


def test_clients_of_a_hosts_edge_get_all_but_the_egress() -> None:
    *all_but_the_last, (name, content) = edge(MESH)
    assert edge(replace(MESH, has_egress=False)) == all_but_the_last
    assert (name, content["value"]["name"]) == ("listener", "egress")
