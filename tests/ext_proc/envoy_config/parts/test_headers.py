"""Headers that steer: removed from calls that come in, and from replies."""

import re

import pytest

from ext_proc.contract import NAMED_HEADER, STEERING_HEADERS
from ext_proc.envoy_config import EnvoySettings, GatheredCalls
from ext_proc.upstream.hop_mark import HopMark
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


@pytest.mark.parametrize("version", VERSIONS)
def test_on_a_unix_socket_envoy_reads_the_hop_mark_itself(version: str) -> None:
    document = edge_document(EnvoySettings(egress="unix:/tmp/tbms-egress.sock"), version)
    reading, _, routing = manager(document, "egress")["http_filters"]
    (rule,) = reading["typed_config"]["request_rules"]
    assert (rule["header"], rule["remove"], routing["name"]) == ("x-tbms-hop", True, "envoy.filters.http.router")
    told = rule["on_header_present"]
    assert (told["metadata_namespace"], told["key"]) == ("envoy.lb", "tbms-nodes")
    rewrite = told["regex_value_rewrite"]
    mark = HopMark("s" * 32).write(("10.0.0.1:8501", "[::1]:8501"))
    assert re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], mark) == "10.0.0.1:8501,[::1]:8501"
    # Whoever may open the socket passes for the server.
    listeners = {entry["name"]: entry["address"] for entry in document["static_resources"]["listeners"]}
    assert listeners["egress"] == {"pipe": {"path": "/tmp/tbms-egress.sock", "mode": 0o660}}
    assert [entry["name"] for entry in manager(document)["http_filters"]] == [
        "envoy.filters.http.header_mutation", "tbms", "envoy.filters.http.router",
    ]  # fmt: skip


def test_steering_headers_end_here() -> None:
    (mutation,) = manager(node_document(), "models")["early_header_mutation_extensions"]
    removed = {entry["remove"] for entry in mutation["typed_config"]["mutations"]}
    assert removed == {"x-tbms-node", "x-tbms-hop"}
    for name in ("models", "egress"):
        (host,) = manager(node_document(gathered=GatheredCalls()), name)["route_config"]["virtual_hosts"]
        assert set(STEERING_HEADERS) <= set(host["request_headers_to_remove"])
    assert not [entry for entry in everything(node_document()) if "override_host_sources" in entry]
