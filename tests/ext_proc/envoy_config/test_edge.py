"""The generated Envoy configuration: its choices by reading it, its validity by asking real Envoys."""

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ext_proc.envoy_config import EnvoyLimits, EnvoySettings, render, render_endpoints
from ext_proc.envoy_config.address import endpoint, place
from ext_proc.envoy_config.settings import ServerTls
from ext_proc.envoy_config.versions import BodyAccess, body_access, short
from ext_proc.errors import ConfigError
from mesh.node import Node
from tests.ext_proc.envoy_config.documents import VERSIONS, Document, chosen, cluster, everything, manager, validate

ENVOY_FOLDER = Path(__file__).resolve().parents[3] / "envoy"
SOCKET = "unix:/run/tbms/ext_proc.sock"
NODES = (
    Node("a", grpc="10.0.0.1:8500", rest="10.0.0.1:8501"),
    Node("b", grpc="10.0.0.2:8500", rest="10.0.0.2:8501"),
)

DEFAULT = EnvoySettings()


@cache
def rendered(settings: EnvoySettings = DEFAULT, version: str = "1.40", server: str = SOCKET) -> Document:
    document: Document = yaml.safe_load(render(settings, version=version, server=server, nodes=NODES))
    return document


GRPC = {"content-type": "application/grpc"}
JSON = {"content-type": "application/json"}
REST_PATH = {":path": "/v1/models/m:predict"}
PREDICT = {":path": "/tensorflow.serving.PredictionService/Predict"}
INFER = {":path": "/inference.GRPCInferenceService/ModelInfer"}
NAMED = {"x-tbms-model": "m"}

# headers -> the way on 1.40, on 1.38, on 1.36
CALLS: list[tuple[dict[str, str], tuple[str, str, str]]] = [
    ({**JSON, **REST_PATH}, ("open", "open", "open")),
    (REST_PATH, ("open", "open", "open")),
    ({**GRPC, **PREDICT}, ("closed", "stream", "stream")),
    ({**GRPC, **INFER}, ("closed", "stream", "stream")),
    ({"content-type": "application/grpc+proto", **INFER}, ("closed", "stream", "stream")),
    ({**GRPC, **PREDICT, **NAMED}, ("open", "open", "open")),
    # Calls that name no model: other services, and questions about the server itself.
    ({**GRPC, ":path": "/grpc.health.v1.Health/Check"}, ("open", "open", "open")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/ServerLive"}, ("open", "open", "open")),
    # A time limit.
    ({**JSON, **REST_PATH, "tloc": "50"}, ("closed", "stream", "buffer")),
    ({**JSON, **REST_PATH, "tloc": ""}, ("closed", "stream", "buffer")),
    ({**GRPC, **PREDICT, **NAMED, "tloc": "50"}, ("closed", "stream", "stream")),
    # The server's own candidate calls.
    ({**GRPC, **PREDICT, **NAMED, "tloc": "50", "x-tbms-hop": "s"}, ("open", "open", "open")),
    ({**GRPC, **PREDICT, "x-tbms-hop": "s"}, ("closed", "stream", "stream")),
    # Models with backups in the configuration.
    ({**JSON, ":path": "/v1/models/big one:predict"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v1/models/big%20one:predict"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v1/models/x.y/versions/3:classify?a=b"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v2/models/x.y/infer"}, ("closed", "stream", "buffer")),
    ({**JSON, ":path": "/v2/models/x.y/versions/1/infer"}, ("closed", "stream", "buffer")),
    ({**GRPC, **PREDICT, "x-tbms-model": "x.y"}, ("closed", "stream", "stream")),
    ({**JSON, ":path": "/v1/models/xzy:predict"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/x.yy:predict"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/x.y"}, ("open", "open", "open")),
    ({**JSON, ":path": "/v1/models/x.y/metadata"}, ("open", "open", "open")),
    # What would change a node must not reach it while the server is away.
    ({**JSON, ":path": "/v2/repository/models/m/unload"}, ("closed", "closed", "closed")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/RepositoryModelLoad"}, ("closed", "closed", "closed")),
    ({**GRPC, ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"}, ("closed", "closed", "closed")),
    (
        {**GRPC, **NAMED, "x-tbms-hop": "s", ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"},
        ("closed", "closed", "closed"),
    ),
]


@pytest.mark.parametrize("column", range(3), ids=["1.40", "1.38", "1.36"])
def test_headers_choose_how_the_conversation_is_held(column: int) -> None:
    document = rendered(EnvoySettings(body_models=("big one", "x.y")), ("1.40", "1.38", "1.36")[column])
    for headers, ways in CALLS:
        assert chosen(document, headers)["way"] == ways[column], headers
        assert chosen(document, headers, "egress")["way"] == ways[column], headers


@pytest.mark.parametrize("version", VERSIONS)
def test_only_calls_that_headers_name_pass_without_the_server(version: str) -> None:
    document = rendered(EnvoySettings(body_models=("x.y",)), version)
    for headers, _ in CALLS:
        processor = chosen(document, headers)
        if processor["way"] == "open":
            assert processor["failure_mode_allow"] is True
            assert "status_on_error" not in processor
        else:
            assert "failure_mode_allow" not in processor
            assert processor["status_on_error"] == {"code": "ServiceUnavailable"}


@pytest.mark.parametrize(
    ("version", "headers", "mode", "override"),
    [
        ("1.40", {**GRPC, **PREDICT}, "NONE", True),
        ("1.40", REST_PATH, "NONE", True),
        ("1.38", {**GRPC, **PREDICT}, "FULL_DUPLEX_STREAMED", False),
        ("1.38", REST_PATH, "NONE", True),  # to hear of a reply's headers
        ("1.36", {**GRPC, **PREDICT}, "FULL_DUPLEX_STREAMED", False),
        ("1.36", {**JSON, **REST_PATH, "tloc": "50"}, "BUFFERED", False),
    ],
)
def test_the_body_mode_tells_the_server_which_conversation_holds(
    version: str, headers: dict[str, str], mode: str, override: bool
) -> None:
    processor = chosen(rendered(version=version), headers)
    assert processor["processing_mode"].get("request_body_mode", "NONE") == mode
    assert processor.get("allow_mode_override", False) is override
    assert processor["processing_mode"]["request_trailer_mode"] == ("SEND" if "DUPLEX" in mode else "SKIP")
    assert processor["grpc_service"]["initial_metadata"] == [{"key": "x-tbms-envoy", "value": version}]


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_that_may_be_raced_tell_when_they_came(version: str) -> None:
    document = rendered(EnvoySettings(body_models=("x.y",)), version)
    for headers in ({**GRPC, **PREDICT}, {**REST_PATH, "tloc": "50"}, {**JSON, ":path": "/v1/models/x.y:predict"}):
        assert chosen(document, headers)["request_attributes"] == ["request.time"]
    for headers in (REST_PATH, {**GRPC, **PREDICT, **NAMED}, {**GRPC, **PREDICT, **NAMED, "x-tbms-hop": "s"}):
        assert "request_attributes" not in chosen(document, headers)
    assert "request_attributes" not in chosen(rendered(version=version), {**GRPC, **PREDICT})


def test_the_clock_of_another_machine_is_not_asked_for() -> None:
    tls = ServerTls(ca="/ca.pem", certificate="/cert.pem", key="/key.pem", name="tbms")
    document = rendered(EnvoySettings(server_tls=tls))
    assert "request_attributes" not in chosen(document, {**REST_PATH, "tloc": "50"})


def test_a_buffered_call_may_be_held_as_long_as_the_longest_limit() -> None:
    settings = EnvoySettings(limits=EnvoyLimits(longest_tloc_seconds=100))
    document = rendered(settings, "1.36")
    assert chosen(document, {**REST_PATH, "tloc": "50"})["message_timeout"] == "110s"
    assert manager(document)["stream_idle_timeout"] == "130s"


def test_responses_are_watched_only_on_demand() -> None:
    for watch, mode in ((False, "SKIP"), (True, "SEND")):
        document = rendered(EnvoySettings(watch_responses=watch))
        assert chosen(document, REST_PATH)["processing_mode"]["response_header_mode"] == mode


def test_what_nodes_say_in_replies_is_taken_off_behind_our_filter() -> None:
    removing, talking, _ = manager(rendered())["http_filters"]
    assert removing["typed_config"]["mutations"] == {"response_mutations": [{"remove": "x-tbms-residency"}]}
    assert talking["name"] == "tbms"
    for inner in everything(manager(rendered())["route_config"]):
        assert "x-tbms-residency" not in inner.get("response_headers_to_remove", [])


# Nothing of a call is altered, and nobody but the server steers.


@pytest.mark.parametrize("version", VERSIONS)
def test_steering_headers_of_clients_are_removed_before_the_route_is_chosen(version: str) -> None:
    document = rendered(EnvoySettings(direct_listen="127.0.0.1:8081"), version)
    removed = {}
    for name in ("clients", "egress", "direct"):
        (mutation,) = manager(document, name)["early_header_mutation_extensions"]
        removed[name] = {entry["remove"] for entry in mutation["typed_config"]["mutations"]}
        (host,) = manager(document, name)["route_config"]["virtual_hosts"]
        assert {"x-tbms-node", "x-tbms-hop"} <= set(host["request_headers_to_remove"])
    assert removed["clients"] == removed["direct"] == {"x-tbms-node", "x-tbms-hop", "x-tbms-residency"}
    assert removed["egress"] == {"x-tbms-node"}, "the server's own calls need their hop mark to be recognised"


def test_no_header_of_a_client_names_a_node() -> None:
    for name in ("models_grpc", "models_rest"):
        (policy,) = cluster(rendered(), name)["load_balancing_policy"]["policies"]
        sources = policy["typed_extension_config"]["typed_config"]["override_host_sources"]
        assert sources == [{"metadata": {"key": "envoy.lb", "path": [{"key": "tbms-nodes"}]}}]


def test_paths_and_headers_stay_as_they_were_written() -> None:
    config = manager(rendered())
    assert config["normalize_path"] is False
    assert "merge_slashes" not in config
    assert config["path_with_escaped_slashes_action"] == "KEEP_UNCHANGED"
    assert config["server_header_transformation"] == "PASS_THROUGH"
    assert config["skip_xff_append"] is True
    assert config["http_filters"][-1]["typed_config"]["suppress_envoy_headers"] is True


UNPROCESSED = {"connect-failure", "refused-stream", "reset-before-request", "retriable-headers"}
GRPC_ROUTES = ("/tensorflow.serving.PredictionService/", "/inference.GRPCInferenceService/")


def retries(document: Document, path: str, name: str = "clients") -> Document:
    """The policy of the route that a call takes."""
    (host,) = manager(document, name)["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        match = route["match"]
        if ("grpc" in match) is path.startswith(GRPC_ROUTES) and (
            path.startswith(match["prefix"]) if "prefix" in match else re.fullmatch(match["safe_regex"]["regex"], path)
        ):
            return route["route"].get("retry_policy", host["retry_policy"])
    raise AssertionError("no route")


@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.PredictionService/Predict",
        "/inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelMetadata",
        "/v1/models/m:predict",
        "/v1/models/m/versions/3:predict?x=1",
        "/v2/models/m/infer",
        "/v2/models/a%2Fb/versions/1/infer?x=1",
        "/v2/models/m/ready",
    ],
)
def test_a_call_that_only_reads_is_asked_again_when_its_node_dies(path: str) -> None:
    for name in ("clients", "egress"):
        policy = retries(rendered(), path, name)
        assert set(policy["retry_on"].split(",")) == UNPROCESSED | {"reset"}
        assert policy["retriable_headers"] == [{"name": "x-tbms-elsewhere", "present_match": True}]
        policy = retries(rendered(settings=EnvoySettings(repeat_lost=False)), path, name)
        assert set(policy["retry_on"].split(",")) == UNPROCESSED


@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.SessionService/SessionRun",
        "/inference.GRPCInferenceService/ModelStreamInfer",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/v2/models/m/generate_stream",
        "/v2/models/m/trace/setting",
        "/v2/repository/models/m/load",
        "/somebody/else",
    ],
)
def test_of_any_other_call_only_what_was_not_processed_is_tried_again(path: str) -> None:
    assert set(retries(rendered(), path)["retry_on"].split(",")) == UNPROCESSED


def test_nodes_hear_which_try_it_is_and_clients_hear_nothing_of_it() -> None:
    for name in ("clients", "egress"):
        (host,) = manager(rendered(), name)["route_config"]["virtual_hosts"]
        assert host["include_request_attempt_count"] is True
        assert host["response_headers_to_remove"] == ["x-tbms-elsewhere"]


def test_the_server_may_change_no_routing_header_of_envoy_but_the_time_limit() -> None:
    rules = [entry["mutation_rules"] for entry in everything(rendered()) if "mutation_rules" in entry]
    assert rules
    assert all(entry == {"allow_expression": {"regex": "x-envoy-upstream-rq-timeout-ms"}} for entry in rules)


def test_grpc_and_rest_go_to_clusters_of_their_own() -> None:
    (host,) = manager(rendered())["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        assert route["route"]["cluster"] == ("models_grpc" if "grpc" in route["match"] else "models_rest")
    assert [route["match"] for route in host["routes"] if route["match"].get("prefix") == "/"] == [
        {"prefix": "/", "grpc": {}},
        {"prefix": "/"},
    ]


def test_only_1_36_raises_the_limit_of_the_connection() -> None:
    """Its filter buffers before the route's limit is applied."""
    for version in VERSIONS:
        limits = [entry.get("per_connection_buffer_limit_bytes") for entry in everything(rendered(version=version))]
        assert [limit for limit in limits if limit] == ([64 * 1024 * 1024] if version == "1.36" else [])


# Addresses and nodes.


def hosts(assignment: Document) -> list[Document]:
    return [
        host["endpoint"]["address"]["socket_address"]
        for group in assignment.get("endpoints", [])
        for host in group["lb_endpoints"]
    ]


def test_nodes_are_endpoints_by_protocol() -> None:
    nodes = [*NODES, Node("c", grpc="[2001:db8::1]:8500"), Node("d", rest="10.0.0.4:8501"), Node("e")]
    document = yaml.safe_load(render(EnvoySettings(), version="1.40", server=SOCKET, nodes=nodes))
    expected = {
        "models_grpc": [("10.0.0.1", 8500), ("10.0.0.2", 8500), ("2001:db8::1", 8500)],
        "models_rest": [("10.0.0.1", 8501), ("10.0.0.2", 8501), ("10.0.0.4", 8501)],
    }
    files = render_endpoints(nodes)
    assert set(files) == {f"{name}.yaml" for name in expected}
    for name, places in expected.items():
        inline = hosts(cluster(document, name)["load_assignment"])
        assert [(host["address"], host["port_value"]) for host in inline] == places
        (resource,) = yaml.safe_load(files[f"{name}.yaml"])["resources"]
        assert resource["cluster_name"] == name
        assert hosts(resource) == inline


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (SOCKET, ("STATIC", {"pipe": {"path": "/run/tbms/ext_proc.sock"}})),
        ("127.0.0.1:9000", ("STATIC", {"socket_address": {"address": "127.0.0.1", "port_value": 9000}})),
        ("0.0.0.0:9000", ("STATIC", {"socket_address": {"address": "127.0.0.1", "port_value": 9000}})),
        ("[::]:9000", ("STATIC", {"socket_address": {"address": "::1", "port_value": 9000}})),
        ("tbms.local:9000", ("STRICT_DNS", {"socket_address": {"address": "tbms.local", "port_value": 9000}})),
    ],
)
def test_the_server_is_reached_where_it_listens(server: str, expected: tuple[str, Document]) -> None:
    found = cluster(rendered(server=server), "tbms_ext_proc")
    (group,) = found["load_assignment"]["endpoints"]
    (host,) = group["lb_endpoints"]
    assert (found["type"], host["endpoint"]["address"]) == expected


@pytest.mark.parametrize("bad", ["", "host", "unix:run/x", "unix:/" + "x" * 107, "a b:80", "::1:80", "1.2.3.4:0"])
def test_a_wrong_server_address_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="the server's address"):
        rendered(server=bad)


@pytest.mark.parametrize(
    "bad", ["tfs.local:8500", "10.0.0.1", "10.0.0.1:70000", "[2001:DB8::1]:8500", "10.0.0.1:08500"]
)
def test_a_node_that_envoy_would_spell_otherwise_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="node 'n'"):
        render(EnvoySettings(), version="1.40", server=SOCKET, nodes=[Node("n", grpc=bad)])
    with pytest.raises(ConfigError, match="node 'n'"):
        render_endpoints([Node("n", rest=bad)])


@given(ip=st.ip_addresses(), port=st.integers(1, 65535))
def test_endpoints_keep_their_spelling(ip: Any, port: int) -> None:
    text = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    assert endpoint(text) == place(text)
    assert (endpoint(text).host, endpoint(text).port) == (str(ip), port)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = place(text)
    except ValueError:
        return
    assert found.path.startswith("/") or (found.host and 0 < found.port < 65536)


# Settings and versions.


@pytest.mark.parametrize(
    "setting",
    [
        {"egress": "0.0.0.0:8090"},
        {"egress": "10.0.0.1:8090"},
        {"admin": "0.0.0.0:9901"},
        {"direct_listen": "0.0.0.0:1"},
        {"listen": "example.org:80"},
        {"endpoints_dir": "relative"},
        {"body_models": ["a/b"]},
        {"body_models": [""]},
        {"patience_seconds": 0},
        {"unknown": 1},
    ],
)
def test_settings_that_would_be_unsafe_or_wrong_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnvoySettings.model_validate(setting)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.36", BodyAccess.BUFFERED),
        ("1.36.8", BodyAccess.BUFFERED),
        ("v1.37.0", BodyAccess.STREAMED),
        ("1.39", BodyAccess.STREAMED),
        ("1.40", BodyAccess.OVERRIDE),
        ("1.101.2", BodyAccess.OVERRIDE),
    ],
)
def test_versions(version: str, expected: BodyAccess) -> None:
    assert body_access(version) is expected
    assert re.fullmatch(r"1\.\d+", short(version))


@pytest.mark.parametrize("version", ["1.35", "1.35.9", "2.0", "1", "", "latest", "1.40-dev", "1.4O", "1.٤٠", "1.40\n"])
def test_versions_that_are_not_supported_are_named_with_those_that_are(version: str) -> None:
    with pytest.raises(ConfigError, match=r"is not supported; 1\.36 and later 1\.x are"):
        render(EnvoySettings(), version=version, server=SOCKET, nodes=())


def test_rendering_is_stable() -> None:
    assert render(EnvoySettings(), version="1.38", server=SOCKET, nodes=NODES) == render(
        EnvoySettings(), version="1.38.3", server=SOCKET, nodes=NODES
    )


# The committed files, and real Envoys.


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
