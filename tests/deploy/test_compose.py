"""The compose file agrees with itself and with the configurations beside it; running it takes docker or podman."""

from ipaddress import ip_address, ip_network

import pytest
import yaml

from mesh.address import parse_address
from tests.deploy.files import DEPLOY, Document, configuration

COMPOSE: Document = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
TRITON: Document = yaml.safe_load((DEPLOY / "compose/triton.yaml").read_text())
SERVICES: dict[str, Document] = COMPOSE["services"]


def mounted(service: Document) -> dict[str, str]:
    """Where a file or volume is mounted -> what."""
    parts = [volume.split(":") for volume in service.get("volumes", ())]
    return {part[1]: part[0] for part in parts}


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
