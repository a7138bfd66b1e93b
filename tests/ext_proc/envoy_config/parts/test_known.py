"""The filter of known calls stands before ours on the clients' listener only, and ours leaves known calls alone."""

from functools import cache
from pathlib import Path

import pytest

from ext_proc.envoy_config import EnvoySettings, render
from ext_proc.known.file import make_if_absent
from tests.ext_proc.envoy_config.documents import NODES, SOCKET, VERSIONS, Document, manager, read

FILE = "/run/tbms/known.pb"


@cache
def document(version: str, known: str | None = FILE) -> Document:
    return read(render(EnvoySettings(), version=version, server=SOCKET, nodes=NODES, known=known))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_clients_listener_has_it_and_the_servers_own_does_not(version: str) -> None:
    clients, egress = (manager(document(version), name)["http_filters"] for name in ("clients", "egress"))
    # From 1.38 on the script waits for the message by itself: its route limits that.
    waiting = ["tbms-whole-message"] if version in ("1.36", "1.37") else []
    assert [each["name"] for each in clients] == [
        "envoy.filters.http.header_mutation",
        *waiting,
        "tbms-grpc-name",
        "tbms-grpc-name-in-header",
        "tbms-known",
        "tbms",
        "envoy.filters.http.router",
    ]
    # Made when a call comes to it: whatever waits before it may wait while the file changes.
    (once_there,) = clients[-3]["typed_config"]["xds_matcher"].values()
    made = once_there["action"]["typed_config"]["dynamic_config"]
    assert made["name"] == "tbms-known"
    source = made["config_discovery"]
    assert source["config_source"]["path_config_source"] == {"path": FILE}
    assert source["type_urls"] == ["type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"]
    assert [each["name"] for each in egress] == ["tbms", "envoy.filters.http.router"]


@pytest.mark.parametrize("version", VERSIONS)
def test_ours_skips_what_has_its_nodes_before_it_looks_at_anything_else(version: str) -> None:
    ours = manager(document(version))["http_filters"][-2]["typed_config"]["xds_matcher"]["matcher_list"]["matchers"]
    first = ours[0]
    single = first["predicate"]["single_predicate"]
    assert single["input"]["typed_config"]["filter"] == "tbms"
    assert single["input"]["typed_config"]["path"] == [{"key": "tbms-known"}]
    assert single["custom_match"]["typed_config"]["value"] == {"present_match": True}
    assert first["on_match"]["action"]["typed_config"]["@type"].endswith("matcher.action.v3.SkipFilter")
    without = manager(document(version, None))["http_filters"]
    assert [each["name"] for each in without] == [
        "envoy.filters.http.header_mutation",
        "tbms",
        "envoy.filters.http.router",
    ]
    assert without[1]["typed_config"]["xds_matcher"]["matcher_list"]["matchers"] == ours[1:]


def test_the_empty_map_is_small(tmp_path: Path) -> None:
    make_if_absent(tmp_path / "known.pb")
    assert (tmp_path / "known.pb").stat().st_size < 400
