"""The node's bootstrap: its listener and clusters by reading it, its validity by asking real Envoys."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ext_proc.cli.envoy_config import bootstrap_for
from ext_proc.cli.main import app
from ext_proc.config import load
from ext_proc.envoy_config import EnvoyLimits, EnvoySettings, GatheredCalls, render_node
from ext_proc.errors import ConfigError
from tests.ext_proc.envoy_config.documents import (
    ENVOY_FOLDER,
    SOCKET,
    VERSIONS,
    cluster,
    everything,
    manager,
    node_document,
    read,
    validate,
)

DEFAULT = EnvoySettings()


def test_calls_go_to_this_machines_model_server_and_nowhere_else() -> None:
    document = node_document(grpc="127.0.0.1:18500", rest="models.local:18501")
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


@pytest.mark.parametrize("version", VERSIONS)
def test_batches_go_to_the_model_server_by_a_listener_that_asks_nobody(version: str) -> None:
    settings = EnvoySettings(egress="unix:/tmp/tbms-egress.sock")
    document = node_document(version, settings, gathered=GatheredCalls())
    inbound, egress = document["static_resources"]["listeners"]
    assert (inbound["name"], egress["name"]) == ("models", "egress")
    assert egress["address"] == {"pipe": {"path": "/tmp/tbms-egress.sock", "mode": 0o660}}
    assert [each["name"] for each in manager(document, "egress")["http_filters"]] == ["envoy.filters.http.router"]
    (towards,), (sent,) = (manager(document, name)["route_config"]["virtual_hosts"] for name in ("models", "egress"))
    assert sent == towards, "the same model server, and nothing is asked twice that it may have seen"
    # On 1.36 the filter buffers before the route's limit is applied; a batch comes as a stream, in small pieces.
    limits = [each.get("per_connection_buffer_limit_bytes") for each in (inbound, egress)]
    assert limits == [64 * 1024 * 1024 if version == "1.36" else None, 128 * 1024]


def test_known_calls_pass_before_the_server_is_asked_and_tell_of_themselves() -> None:
    settings = EnvoySettings(access_log="/dev/stdout")
    found = manager(node_document(settings=settings, known="/run/tbms/known.pb"), "models")
    assert [each["name"] for each in found["http_filters"]] == ["tbms-known", "tbms", "envoy.filters.http.router"]
    file, calls = found["access_log"]
    assert file["filter"] == {"log_type_filter": {"types": ["DownstreamEnd"]}}, "no line for a call that still runs"
    assert calls["typed_config"]["common_config"]["log_name"] == "tbms-calls"
    assert {"log_type_filter": {"types": ["DownstreamPeriodic"]}} in list(everything(calls["filter"])), "all that run"
    assert found["access_log_options"] == {"access_log_flush_interval": "0.250s"}
    plain = manager(node_document(settings=settings), "models")
    assert [each["name"] for each in plain["http_filters"]] == ["tbms", "envoy.filters.http.router"]
    assert "access_log_options" not in plain
    assert "filter" not in plain["access_log"][0]


@pytest.mark.parametrize(
    ("batching", "gathered"),
    [
        ("{}", GatheredCalls()),
        ("{models: {a: {cross_request: true}, b: {}}}", GatheredCalls(("a", "b"))),
        ("{default: {cross_request: true}}", GatheredCalls(any_model=True)),
    ],
)
def test_the_command_knows_which_models_have_settings_of_their_own(
    batching: str, gathered: GatheredCalls, tmp_path: Path
) -> None:
    file = tmp_path / "tbms.yaml"
    file.write_text(CONFIG.replace("FOLDER", "/tmp") + f"  batching: {batching}\n")
    assert read(bootstrap_for(load(file), "1.38", None)) == node_document(
        "1.38",
        EnvoySettings(listen="127.0.0.1:8080"),
        "127.0.0.1:9500",
        "127.0.0.1:9501",
        7,
        gathered,
        "unix:/tmp/tbms.sock",
    )


@pytest.mark.parametrize(
    ("addresses", "setting"),
    [({"grpc": "nowhere"}, r"node\.cache\.loader\.address"), ({"rest": "127.0.0.1"}, r"node\.rest")],
)
def test_a_wrong_address_names_its_setting(addresses: dict[str, str], setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        node_document(**addresses)  # type: ignore[arg-type]


CONFIG = """
server: {listen: "unix:FOLDER/tbms.sock"}
envoy: {listen: "127.0.0.1:8080"}
node:
  rest: 127.0.0.1:9501
  hold_seconds: 7
  store: {url: "file:///models"}
  cache: {folder: /var/lib/tbms, loader: {address: "127.0.0.1:9500"}}
"""


def test_the_command_renders_the_role_that_the_file_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "tbms.yaml"
    map_file = tmp_path / "known.pb"
    file.write_text(CONFIG.replace("FOLDER", str(tmp_path)) + f"known: {{file: {map_file}}}\n")
    outcome = CliRunner().invoke(app, ["envoy-config", "--config", str(file), "--envoy-version", "1.38"])
    assert outcome.exit_code == 0, outcome.output
    assert map_file.exists()
    assert outcome.stdout == render_node(
        EnvoySettings(listen="127.0.0.1:8080"),
        version="1.38",
        server=f"unix:{tmp_path}/tbms.sock",
        grpc="127.0.0.1:9500",
        rest="127.0.0.1:9501",
        hold_seconds=7,
        known=str(map_file),
    )


@pytest.mark.envoy
@pytest.mark.parametrize("version", VERSIONS)
def test_real_envoys_accept_the_committed_files(version: str) -> None:
    validate(version, ENVOY_FOLDER / f"node-{version}.yaml")


OPTIONS: dict[str, dict[str, Any]] = {
    "known": {"known": "/dev/null"},
    "names": {"grpc": "models.local:8500", "rest": "models.local:8501"},
    "ipv6": {"grpc": "[::1]:8500", "rest": "[2001:db8::1]:8501"},
    "unix": {"grpc": "unix:/tmp/models.sock", "settings": EnvoySettings(listen="unix:/tmp/tbms-node.sock")},
    "batching": {"gathered": GatheredCalls(("a b", "x(y)*", "modèle", "percent%41"))},
    "batching of every model": {"gathered": GatheredCalls(any_model=True), "hold_seconds": 0.5},
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
