"""The Envoy configuration of a node: its choices by reading it, its validity by asking real Envoys."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ext_proc.cli.main import app
from ext_proc.envoy_config import EnvoyLimits, EnvoySettings, render_node
from ext_proc.errors import ConfigError
from tests.ext_proc.envoy_config.documents import VERSIONS, Document, chosen, cluster, everything, manager, validate

ENVOY_FOLDER = Path(__file__).resolve().parents[3] / "envoy"
SOCKET = "unix:/run/tbms/ext_proc.sock"
DEFAULT = EnvoySettings()


@cache
def rendered(
    version: str = "1.40",
    settings: EnvoySettings = DEFAULT,
    grpc: str = "127.0.0.1:8500",
    rest: str = "127.0.0.1:8501",
    hold_seconds: float = 300.0,
) -> Document:
    text = render_node(settings, version=version, server=SOCKET, grpc=grpc, rest=rest, hold_seconds=hold_seconds)
    document: Document = yaml.safe_load(text)
    return document


def choice(version: str, headers: dict[str, str]) -> Document:
    return chosen(rendered(version), headers, "models")


GRPC = {"content-type": "application/grpc"}
PREDICT = {":path": "/tensorflow.serving.PredictionService/Predict"}
INFER = {":path": "/inference.GRPCInferenceService/ModelInfer"}
STREAM_INFER = {":path": "/inference.GRPCInferenceService/ModelStreamInfer"}

# headers -> the way on 1.40, and before
CALLS: list[tuple[dict[str, str], tuple[str, str]]] = [
    ({":path": "/v1/models/m:predict", "content-type": "application/json"}, ("open", "open")),
    ({":path": "/v2/models/m/ready"}, ("open", "open")),
    ({":path": "/v2/models/m/infer", "tloc": "50"}, ("open", "open")),
    ({**GRPC, **PREDICT}, ("open", "stream")),
    ({**GRPC, **INFER}, ("open", "stream")),
    ({**GRPC, **STREAM_INFER}, ("open", "stream")),
    ({**GRPC, **PREDICT, "x-tbms-model": "m"}, ("open", "open")),
    ({**GRPC, ":path": "/grpc.health.v1.Health/Check"}, ("open", "open")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/ServerLive"}, ("open", "open")),
    ({":path": "/v2/repository/models/m/unload"}, ("closed", "closed")),
    ({**GRPC, ":path": "/inference.GRPCInferenceService/RepositoryModelLoad"}, ("closed", "closed")),
    ({**GRPC, ":path": "/tensorflow.serving.ModelService/HandleReloadConfigRequest"}, ("closed", "closed")),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_headers_choose_how_the_conversation_is_held(version: str) -> None:
    for headers, (newest, older) in CALLS:
        assert choice(version, headers)["way"] == (newest if version == "1.40" else older), headers


@pytest.mark.parametrize("version", VERSIONS)
def test_every_call_that_may_use_a_model_is_followed_to_its_end(version: str) -> None:
    for headers, _ in CALLS:
        processor = choice(version, headers)
        mode = processor["processing_mode"]
        if processor["way"] == "closed":
            assert mode["response_header_mode"] == "SKIP"
            continue
        assert (mode["response_header_mode"], mode["response_trailer_mode"]) == ("SEND", "SEND")
        streamed = processor["way"] == "stream"
        assert mode.get("request_body_mode", "NONE") == ("FULL_DUPLEX_STREAMED" if streamed else "NONE")
        assert processor.get("allow_mode_override", False) is (version == "1.40")


@pytest.mark.parametrize("version", VERSIONS)
def test_without_the_server_calls_pass_where_this_envoy_can_let_them(version: str) -> None:
    for headers, _ in CALLS:
        processor = choice(version, headers)
        assert processor.get("failure_mode_allow", False) is (processor["way"] == "open")
        # A call that can pass no more when the server is lost, since its body was streamed, is UNAVAILABLE too.
        assert processor["status_on_error"] == {"code": "ServiceUnavailable"}


def test_a_call_may_wait_for_its_load() -> None:
    short, long = rendered(hold_seconds=20.0), rendered(hold_seconds=5000.0)
    headers = {":path": "/v2/models/m/infer"}
    assert chosen(short, headers, "models")["message_timeout"] == "30s"
    assert chosen(long, headers, "models")["message_timeout"] == "5010s"
    assert manager(short, "models")["stream_idle_timeout"] == "630s"
    assert manager(long, "models")["stream_idle_timeout"] == "5030s"
    for document in (short, long):
        (host,) = manager(document, "models")["route_config"]["virtual_hosts"]
        assert {route["route"]["timeout"] for route in host["routes"]} == {"0s"}


def test_calls_go_to_this_machines_model_server_and_nowhere_else() -> None:
    document = rendered(grpc="127.0.0.1:18500", rest="models.local:18501")
    places = {}
    for name in ("models_grpc", "models_rest"):
        found = cluster(document, name)
        (group,) = found["load_assignment"]["endpoints"]
        (host,) = group["lb_endpoints"]
        where = host["endpoint"]["address"]["socket_address"]
        places[name] = (found["type"], where["address"], where["port_value"])
        assert "load_balancing_policy" not in found
        assert "health_checks" not in found
    assert places == {
        "models_grpc": ("STATIC", "127.0.0.1", 18500),
        "models_rest": ("STRICT_DNS", "models.local", 18501),
    }
    assert [entry["name"] for entry in document["static_resources"]["listeners"]] == ["models"]


def test_a_call_is_not_sent_to_the_same_model_server_twice_once_it_was_sent() -> None:
    (host,) = manager(rendered(), "models")["route_config"]["virtual_hosts"]
    assert host["retry_policy"]["retry_on"] == "connect-failure,refused-stream,reset-before-request"
    assert not [route for route in host["routes"] if "retry_policy" in route["route"]]


def test_steering_headers_end_here() -> None:
    (mutation,) = manager(rendered(), "models")["early_header_mutation_extensions"]
    removed = {entry["remove"] for entry in mutation["typed_config"]["mutations"]}
    assert removed == {"x-tbms-node", "x-tbms-hop"}
    assert not [entry for entry in everything(rendered()) if "override_host_sources" in entry]


@pytest.mark.parametrize(
    ("addresses", "setting"),
    [({"grpc": "nowhere"}, r"node\.cache\.loader\.address"), ({"rest": "127.0.0.1"}, r"node\.rest")],
)
def test_a_wrong_address_names_its_setting(addresses: dict[str, str], setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        rendered(**addresses)  # type: ignore[arg-type]


CONFIG = """
server: {listen: "unix:/tmp/tbms.sock"}
envoy: {listen: "127.0.0.1:8080"}
node:
  rest: 127.0.0.1:9501
  hold_seconds: 7
  store: {url: "file:///models"}
  cache: {folder: /var/lib/tbms, loader: {address: "127.0.0.1:9500"}}
"""


def test_the_command_renders_the_role_that_the_file_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "tbms.yaml"
    file.write_text(CONFIG)
    outcome = CliRunner().invoke(app, ["envoy-config", "--config", str(file), "--envoy-version", "1.38"])
    assert outcome.exit_code == 0, outcome.output
    assert outcome.stdout == render_node(
        EnvoySettings(listen="127.0.0.1:8080"),
        version="1.38",
        server="unix:/tmp/tbms.sock",
        grpc="127.0.0.1:9500",
        rest="127.0.0.1:9501",
        hold_seconds=7,
    )


@pytest.mark.envoy
@pytest.mark.parametrize("version", VERSIONS)
def test_real_envoys_accept_the_committed_files(version: str) -> None:
    validate(version, ENVOY_FOLDER / f"node-{version}.yaml")


OPTIONS: dict[str, dict[str, Any]] = {
    "names": {"grpc": "models.local:8500", "rest": "models.local:8501"},
    "ipv6": {"grpc": "[::1]:8500", "rest": "[2001:db8::1]:8501"},
    "unix": {"grpc": "unix:/tmp/models.sock", "settings": EnvoySettings(listen="unix:/tmp/tbms-node.sock")},
    "everything on": {
        "settings": EnvoySettings(
            access_log="/dev/null",
            upstream_header=True,
            request_ids=False,
            limits=EnvoyLimits(longest_tloc_seconds=0.5, in_flight=1, connections=1, streams=1),
        ),
        "hold_seconds": 0.5,
    },
}


@pytest.mark.envoy
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("option", OPTIONS)
def test_real_envoys_accept_every_option(version: str, option: str, tmp_path: Path) -> None:
    given = {"settings": DEFAULT, "grpc": "127.0.0.1:8500", "rest": "127.0.0.1:8501", "hold_seconds": 300.0}
    given |= OPTIONS[option]
    config = tmp_path / "envoy.yaml"
    config.write_text(render_node(given.pop("settings"), version=version, server=SOCKET, **given), encoding="utf-8")
    validate(version, config)
