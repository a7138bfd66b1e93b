"""The configuration file: what is accepted, and how what is not is told."""

from pathlib import Path

import pytest

from ext_proc.config import Config, load, parse
from ext_proc.errors import ConfigError


def test_an_empty_file_is_the_default_configuration() -> None:
    assert parse("", "tbms.yaml") == Config()


def test_every_section_is_read() -> None:
    config = parse(
        """
        server: {listen: "127.0.0.1:9000", admin: "127.0.0.1:9001", drain_seconds: 5}
        limits: {body_bytes: 2048}
        routing: {replicas: 3, zone: east}
        probe: {interval: 0.5}
        nodes: [{id: a, grpc: "10.0.0.1:8500", zone: east, models: [m]}]
        models: {m: {limit_ms: 50, backups: [n]}, n: {}}
        broker: {hedge_share: 0.1}
        envoy: {listen: "127.0.0.1:8080"}
        """,
        "tbms.yaml",
    )
    assert config.server.drain_seconds == 5
    assert config.nodes[0].node().models == frozenset({"m"})
    assert config.model_table.names == ("m",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {listn: x}", ["server.listn", "no such setting"]),
        ("server: {listen: nowhere}", ["server.listen", "ip:port or unix:/path", "'nowhere'"]),
        ("server: {listen: 'unix:relative'}", ["server.listen", "absolute"]),
        ("server: {listen: '1.2.3.4:99999'}", ["server.listen"]),
        ("server: {listen: 'localhost:80'}", ["server.listen", "localhost"]),
        ("limits: {body_bytes: 1}", ["limits.body_bytes", "1024", "found 1"]),
        ("nodes: [{id: a}]", ["nodes.0", "neither a grpc nor a rest endpoint"]),
        ("nodes: [{id: a, grpc: 'host:1'}]", ["nodes.0.grpc"]),
        ("nodes: [{id: a, grpc: '1.1.1.1:1'}, {id: a, grpc: '1.1.1.1:2'}]", ["nodes", "'a'"]),
        ("models: {a: {alias: b}, b: {alias: a}}", ["a", "b"]),
        ("models: {a: {backups: ['((']}}", ["models.a.backups.0"]),
        ("warm: {replica_load: 1}", ["warm.replica_load", "1", "routing.load_step", "2"]),
        ("- 1", ["a mapping of sections was expected, not list"]),
        (
            "routing: {}\na: [b\n",
            ["not YAML: line 3, column 1: expected ',' or ']', but got '<stream end>' while parsing"],
        ),
        ("a: b: c", ["not YAML: line 1, column 5: mapping values are not allowed here"]),
        ("a: \x00", ["not YAML: "]),
    ],
)
def test_an_error_names_file_place_value_and_rule(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "tbms.yaml")
    message = str(caught.value)
    assert message.startswith("tbms.yaml: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noodes: []", "noodes: no such setting. Did you mean 'nodes' or 'node' or 'models'?"),
        ("routing: {replcas: 2}", "routing.replcas: no such setting. Did you mean 'replicas' or 'max_replicas'?"),
        ("nodes: [{id: a, grpc: '1.1.1.1:1', redst: x}]", "nodes.0.redst: no such setting. Did you mean 'rest'?"),
        ("models: {m: {limt_ms: 3}}", "models.m.limt_ms: no such setting. Did you mean 'limit_ms' or 'estimate_ms'?"),
        ("tracing: {endpoit: x}", "tracing.endpoit: no such setting. Did you mean 'endpoint'?"),
        ("envoy: {tls: {x: 1}}", "envoy.tls: no such setting"),
        ("discovery: [{kind: dns, zonne: x}]", "discovery.0.dns.zonne: no such setting. Did you mean 'zone'?"),
        ("discovery: [{kind: dns, tokn_file: x}]", "discovery.0.dns.tokn_file: no such setting"),  # Consul has one
    ],
)
def test_a_setting_that_is_none_is_told_with_the_nearest(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert f"f: {says}" in str(caught.value).splitlines()


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("{limits: {body_bytes: 1}, server: {drain_seconds: -1}}", "f")
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"limits: {{body_bytes: {'x' * 500}}}", "f")
    assert len(str(caught.value)) < 250
