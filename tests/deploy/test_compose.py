"""The compose files agree with themselves and with the configurations beside them, and mean to Docker Compose what they
say; running them takes docker or podman."""

import json
import subprocess
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from integration.peers.from_source import COMPOSE as DOCKER_COMPOSE
from integration.peers.from_source import place
from mesh.address import parse_address
from tests.deploy.files import DEPLOY, Document, configuration

FILES = {"tf-serving": ("compose.yaml",), "triton": ("compose.yaml", "triton.yaml")}
OURS = "tbms:0.1.0"
COMPOSE: Document = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
TRITON: Document = yaml.safe_load((DEPLOY / "compose/triton.yaml").read_text())
SERVICES: dict[str, Document] = COMPOSE["services"]


def mounted(service: Document) -> dict[str, str]:
    """Where a file or volume is mounted -> what."""
    parts = [volume.split(":") for volume in service.get("volumes", ())]
    return {part[1]: part[0] for part in parts}


@cache
def resolved(kind: str) -> Document:
    """What Docker Compose makes of the files of a kind. Whatever it warns of is no success."""
    try:
        program = place(DOCKER_COMPOSE, "./cmd")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    files = [word for name in FILES[kind] for word in ("-f", DEPLOY / "compose" / name)]
    done = subprocess.run([program, *files, "config", "--format", "json"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found: Document = json.loads(done.stdout)
    return found


def by_target(service: Document) -> dict[str, tuple[str, str, bool]]:
    """Where something is mounted -> type, what (of files the name), and whether it is read-only."""
    return {
        each["target"]: (each["type"], Path(each["source"]).name, each.get("read_only", False))
        for each in service["volumes"]
    }


@pytest.mark.parametrize("kind", FILES)
def test_compose_takes_them_without_a_warning(kind: str) -> None:
    document = resolved(kind)
    assert document["name"] == "tbms"
    assert document["services"].keys() == SERVICES.keys()
    assert {name.removeprefix("tbms_") for name in document["volumes"]} == COMPOSE["volumes"].keys()


@pytest.mark.parametrize("kind", FILES)
def test_ours_and_envoy_run_without_rights_under_one_user(kind: str) -> None:
    model_servers = ("node-a", "node-b")
    for name, service in resolved(kind)["services"].items():
        if name not in model_servers:
            assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001:10001", True, ["ALL"]), name
            assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("kind", FILES)
def test_every_container_gets_what_it_shares(kind: str) -> None:
    services = resolved(kind)["services"]
    for node in ("node-a", "node-b"):
        own, run, models = f"{kind}-node.yaml", f"{node}-run", f"{node}-models"
        assert by_target(services[node])["/var/lib/tbms"] == ("volume", models, True)
        assert by_target(services[f"{node}-bootstrap"]) == {
            "/etc/tbms/tbms.yaml": ("bind", own, True),
            "/run/tbms": ("volume", run, False),
            "/var/lib/tbms": ("volume", models, False),
        }
        assert by_target(services[f"{node}-tbms"]) == {
            **by_target(services[f"{node}-bootstrap"]), "/models": ("bind", "models", True)
        }  # fmt: skip
        assert by_target(services[f"{node}-envoy"]) == {"/run/tbms": ("volume", run, False)}
    edge = {"/etc/tbms/tbms.yaml": ("bind", "edge.yaml", True), "/run/tbms": ("volume", "edge-run", False)}
    assert by_target(services["edge"]) == by_target(services["edge-bootstrap"]) == edge
    assert by_target(services["edge-envoy"]) == {"/run/tbms": ("volume", "edge-run", False)}


@pytest.mark.parametrize(
    ("kind", "program"), [("tf-serving", "/usr/bin/tensorflow_model_server"), ("triton", "tritonserver")]
)
def test_the_model_server_is_the_one_that_was_asked_for(kind: str, program: str) -> None:
    services = resolved(kind)["services"]
    for node in ("node-a", "node-b"):
        assert services[node]["entrypoint"] == [program]
        assert services[node]["command"] == (SERVICES if kind == "tf-serving" else TRITON["services"])[node]["command"]


@pytest.mark.parametrize("kind", FILES)
def test_the_health_of_a_server_is_that_of_its_image(kind: str) -> None:
    services = resolved(kind)["services"]
    waited = {
        other
        for service in services.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert waited == {"edge", "node-a-tbms", "node-b-tbms"}
    for name, service in services.items():
        if name.endswith("-bootstrap"):
            assert service["healthcheck"] == {"disable": True}
        else:
            assert "healthcheck" not in service
        if name in waited:
            assert service["image"] == OURS


@pytest.mark.parametrize("kind", FILES)
def test_who_shares_a_network_is_restarted_with_it(kind: str) -> None:
    shares = {
        name: service["network_mode"].removeprefix("service:")
        for name, service in resolved(kind)["services"].items()
        if service.get("network_mode", "").startswith("service:")
    }
    assert len(shares) == 5
    for name, other in shares.items():
        assert resolved(kind)["services"][name]["depends_on"][other]["restart"] is True, name


def test_what_is_mounted_is_there() -> None:
    for name, service in [*SERVICES.items(), *TRITON["services"].items()]:
        for what in mounted(service).values():
            if what == "./models":
                continue  # the reader's own
            assert what in COMPOSE["volumes"] or (DEPLOY / "compose" / what).is_file(), name


def test_services_refer_to_services() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
        kind, _, other = service.get("network_mode", "").partition(":")
        assert kind in ("", "none", "service")
        assert not other or other in SERVICES
    assert TRITON["services"].keys() <= SERVICES.keys()


def test_who_is_waited_for_to_be_healthy_has_a_health_check() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert SERVICES[other]["image"].startswith("tbms:")  # the image has one


def test_nodes_have_the_addresses_that_the_edge_knows() -> None:
    network = ip_network(COMPOSE["networks"]["fleet"]["ipam"]["config"][0]["subnet"])
    edge = configuration("compose/edge.yaml")
    for node in edge.nodes:
        address = SERVICES[node.id]["networks"]["fleet"]["ipv4_address"]
        assert ip_address(address) in network
        assert {parse_address(str(each)).host for each in (node.grpc, node.rest, node.residency)} == {address}


@pytest.mark.parametrize("kind", ["tf-serving", "triton"])
def test_ports_of_a_node_are_those_that_its_server_and_its_edge_use(kind: str) -> None:
    config, edge = configuration(f"compose/{kind}-node.yaml"), configuration("compose/edge.yaml")
    assert config.node is not None
    assert config.node.publish is not None
    for node in edge.nodes:
        assert parse_address(str(node.rest)).port == parse_address(config.envoy.listen).port
        assert parse_address(str(node.residency)).port == parse_address(config.node.publish).port
        server = (SERVICES if kind == "tf-serving" else TRITON["services"])[node.id]["command"]
        grpc, rest = (parse_address(text).port for text in (config.node.cache.loader.address, config.node.rest))
        assert any(word.endswith(f"port={grpc}") for word in server)
        assert any(word.endswith(f"port={rest}") for word in server)


def test_what_is_published_is_where_the_edge_listens_and_for_this_machine_only() -> None:
    edge = configuration("compose/edge.yaml")
    listens = {parse_address(text).port for text in (edge.envoy.listen, edge.server.admin)}
    published = [port.split(":") for service in SERVICES.values() for port in service.get("ports", ())]
    assert {(host, int(outer), int(inner)) for host, outer, inner in published} == {
        ("127.0.0.1", port, port) for port in listens
    }


def test_a_drain_ends_before_the_container_is_killed() -> None:
    seconds = float(COMPOSE["x-tbms"]["stop_grace_period"].removesuffix("s"))
    for path in ("edge", "tf-serving-node", "triton-node"):
        assert configuration(f"compose/{path}.yaml").server.drain_seconds + 15 <= seconds
