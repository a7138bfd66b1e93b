"""Headers that steer: removed from calls that come in, and from replies."""

import pytest

from ext_proc.contract import NAMED_HEADER, STEERING_HEADERS
from ext_proc.envoy_config import EnvoySettings, GatheredCalls
from tests.ext_proc.envoy_config.documents import VERSIONS, edge_document, everything, manager, node_document


def test_what_nodes_say_in_replies_is_taken_off_behind_our_filter() -> None:
    removing, talking, _ = manager(edge_document())["http_filters"]
    assert removing["typed_config"]["mutations"] == {"response_mutations": [{"remove": "x-tbms-residency"}]}
    assert talking["name"] == "tbms"
    for inner in everything(manager(edge_document())["route_config"]):
        assert "x-tbms-residency" not in inner.get("response_headers_to_remove", [])


@pytest.mark.parametrize("version", VERSIONS)
def test_steering_headers_of_clients_are_removed_before_the_route_is_chosen(version: str) -> None:
    document = edge_document(EnvoySettings(direct_listen="127.0.0.1:8081"), version)
    removed = {}
    for name in ("clients", "egress", "direct"):
        (mutation,) = manager(document, name)["early_header_mutation_extensions"]
        removed[name] = {entry["remove"] for entry in mutation["typed_config"]["mutations"]}
        (host,) = manager(document, name)["route_config"]["virtual_hosts"]
        gone = set(host["request_headers_to_remove"])
        assert {"x-tbms-node", "x-tbms-hop", NAMED_HEADER} <= gone
        assert not {"x-tbms-call", "x-tbms-session", "x-tbms-residency"} & gone, (
            "nodes are to hear what their edge says"
        )
    assert removed["clients"] == removed["direct"] == {*STEERING_HEADERS, NAMED_HEADER}
    assert removed["egress"] == {"x-tbms-node"}, "the server's own calls need their hop mark to be recognised"


def test_steering_headers_end_here() -> None:
    (mutation,) = manager(node_document(), "models")["early_header_mutation_extensions"]
    removed = {entry["remove"] for entry in mutation["typed_config"]["mutations"]}
    assert removed == {"x-tbms-node", "x-tbms-hop"}
    for name in ("models", "egress"):
        (host,) = manager(node_document(gathered=GatheredCalls()), name)["route_config"]["virtual_hosts"]
        assert set(STEERING_HEADERS) <= set(host["request_headers_to_remove"])
    assert not [entry for entry in everything(node_document()) if "override_host_sources" in entry]
