"""Every kind of modification, on a sidecar as a live control plane made it."""

from typing import Any

import pytest
import yaml

from ext_proc.kuma.patching.applying import Effect, apply
from ext_proc.kuma.patching.envoy_types import EnvoyTypeError
from ext_proc.kuma.patching.modification import read_modification
from ext_proc.kuma.patching.resources import Resources, managers
from tests.ext_proc.kuma.samples import FOLDER, document

ROUTER, RBAC, STATS = "envoy.filters.http.router", "envoy.filters.http.rbac", "envoy.filters.http.grpc_stats"
TYPES = "type.googleapis.com/envoy.extensions"
MANAGER = "envoy.filters.network.http_connection_manager"
REST, GRPC = "inbound:127.0.1.2:8501", "inbound:127.0.1.2:8500"
LUA = {"name": "lua", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}}


def node() -> Resources:
    return Resources(document(FOLDER / "2.14/legacy-mtls/node-a.before.json"))


def change(resources: Resources, kind: str, **body: Any) -> Effect:
    if isinstance(body.get("value"), dict):
        body["value"] = yaml.safe_dump(body["value"])
    (effect,) = apply([read_modification({kind: body}, "m")], resources, keyed=False)
    return effect


def filters(resources: Resources, listener: str) -> list[str]:
    (manager,) = managers(resources.listeners[listener].value)
    return [each["name"] for each in manager["httpFilters"]]


@pytest.mark.parametrize(
    ("operation", "name", "wanted"),
    [
        ("AddFirst", None, ["lua", RBAC, STATS, ROUTER]),
        ("AddLast", None, [RBAC, STATS, ROUTER, "lua"]),
        ("AddBefore", ROUTER, [RBAC, STATS, "lua", ROUTER]),
        ("AddAfter", RBAC, [RBAC, "lua", STATS, ROUTER]),
        ("AddBefore", "none", [RBAC, STATS, ROUTER]),
    ],
)
def test_filters_are_added(operation: str, name: str | None, wanted: list[str]) -> None:
    resources = node()
    match = {"origin": "inbound", "listenerName": GRPC, **({"name": name} if name else {})}
    effect = change(resources, "httpFilter", operation=operation, match=match, value=LUA)
    assert filters(resources, GRPC) == wanted
    assert filters(resources, REST) == [RBAC, ROUTER]
    assert effect.met == {GRPC: int("lua" in wanted)}


def test_filters_are_removed_by_name() -> None:
    resources = node()
    effect = change(resources, "httpFilter", operation="Remove", match={"name": STATS})
    assert (filters(resources, GRPC), effect.met) == ([RBAC, ROUTER], {GRPC: 1, REST: 0})


def test_of_a_filter_the_configuration_is_patched_and_nothing_else() -> None:
    resources = node()
    value = {
        "name": "another",
        "isOptional": True,
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
            "enableUpstreamStats": True,
        },
    }
    change(resources, "httpFilter", operation="Patch", match={"name": STATS}, value=value)
    (manager,) = managers(resources.listeners[GRPC].value)
    config = {**value["typedConfig"], "emitFilterState": True}
    assert manager["httpFilters"][1] == {"name": STATS, "typedConfig": config}


def test_listeners_are_found_by_tags() -> None:
    tags = {"kuma.io/service": "models", "app": "*"}
    effect = change(node(), "httpFilter", operation="AddFirst", match={"listenerTags": tags}, value=LUA)
    assert effect.met == {REST: 1}
    assert not change(node(), "httpFilter", operation="AddFirst", match={"listenerTags": {"no": "*"}}, value=LUA).met


def test_network_filters_are_patched_with_all_that_is_in_them() -> None:
    resources = node()
    value = {
        "name": MANAGER,
        "typedConfig": {
            "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "streamIdleTimeout": "5s",
            "accessLog": [{"name": "envoy.access_loggers.stdout"}],
        },
    }
    effect = change(
        resources, "networkFilter", operation="Patch", match={"name": MANAGER, "origin": "inbound"}, value=value
    )
    for listener in (REST, GRPC):
        (manager,) = managers(resources.listeners[listener].value)
        assert manager["streamIdleTimeout"] == "5s"
        assert manager["statPrefix"].startswith("localhost_")
        assert len(manager["accessLog"]) == 1
    assert effect.met == {REST: 1, GRPC: 1}
    change(resources, "networkFilter", operation="AddFirst", match={"listenerName": REST}, value={"name": "tap"})
    change(resources, "networkFilter", operation="Remove", match={"name": MANAGER, "listenerName": REST})
    assert resources.listeners[REST].value["filterChains"][0]["filters"] == [{"name": "tap"}]


def test_virtual_hosts_are_found_by_their_routes() -> None:
    resources = node()
    match = {"routeConfigurationName": "inbound:models"}
    effect = change(resources, "virtualHost", operation="Patch", match=match, value={"requestHeadersToRemove": ["x"]})
    assert effect.met == {REST: 1}
    (manager,) = managers(resources.listeners[REST].value)
    assert manager["routeConfig"]["virtualHosts"][0]["requestHeadersToRemove"] == ["x"]
    change(resources, "virtualHost", operation="Add", match=match, value={"name": "v", "domains": ["v"]})
    assert [each["name"] for each in manager["routeConfig"]["virtualHosts"]] == ["models", "v"]
    change(resources, "virtualHost", operation="Remove", match={**match, "name": "models"})
    assert [each["name"] for each in manager["routeConfig"]["virtualHosts"]] == ["v"]


def test_clusters_and_listeners_are_added_patched_and_removed() -> None:
    resources = node()
    change(resources, "cluster", operation="Add", value={"name": "ours", "type": "STATIC"})
    assert resources.clusters["ours"].origin == "proxy-template-modifications"
    effect = change(
        resources, "cluster", operation="Patch", match={"origin": "inbound"}, value={"connectTimeout": "1s"}
    )
    assert set(effect.met) == {"localhost:18500", "localhost:18501"}
    assert "connectTimeout" not in resources.clusters["ours"].value
    change(resources, "cluster", operation="Add", value={"name": "ours", "type": "STRICT_DNS"})
    assert resources.clusters["ours"].value == {"name": "ours", "type": "STRICT_DNS"}
    change(resources, "cluster", operation="Remove", match={"name": "ours"})
    assert "ours" not in resources.clusters
    change(resources, "listener", operation="Add", value={"name": "l"})
    change(
        resources, "listener", operation="Patch", match={"tags": {"kuma.io/protocol": "grpc"}}, value={"freebind": True}
    )
    assert resources.listeners[GRPC].value["freebind"] is True
    assert "freebind" not in resources.listeners[REST].value
    change(resources, "listener", operation="Remove", match={"name": "l"})
    assert set(resources.listeners) == {REST, GRPC}


def test_json_patches() -> None:
    resources = node()
    patches = [
        {"op": "replace", "path": "/connectTimeout", "value": "0.5s"},
        {"op": "add", "path": "/commonLbConfig/healthyPanicThreshold/value", "value": 1},
        {"op": "add", "path": "/circuitBreakers/thresholds/-", "value": {"priority": "HIGH"}},
        {"op": "remove", "path": "/nothing/there"},
        {"op": "replace", "path": "/circuitBreakers/thresholds/0/maxRequests", "value": 1},
    ]
    with pytest.raises(EnvoyTypeError, match=r"jsonPatches\[4\]: replace /circuitBreakers/thresholds/0/maxRequests"):
        change(resources, "cluster", operation="Patch", match={"name": "localhost:18501"}, jsonPatches=patches)
    change(resources, "cluster", operation="Patch", match={"name": "localhost:18501"}, jsonPatches=patches[:4])
    value = resources.clusters["localhost:18501"].value
    assert value["connectTimeout"] == "0.500s"
    assert value["commonLbConfig"] == {"healthyPanicThreshold": {"value": 1.0}}
    assert value["circuitBreakers"]["thresholds"] == [{"trackRemaining": True}, {"priority": "HIGH"}]
    misspelt = [{"op": "add", "path": "/connectTimeOut", "value": "1s"}]
    with pytest.raises(EnvoyTypeError, match="connectTimeOut: Cluster has no such field"):
        change(resources, "cluster", operation="Patch", match={"name": "localhost:18501"}, jsonPatches=misspelt)
    emit = [{"op": "replace", "path": "/emitFilterState", "value": False}]
    change(resources, "httpFilter", operation="Patch", match={"name": STATS}, jsonPatches=emit)
    (manager,) = managers(resources.listeners[GRPC].value)
    assert "emitFilterState" not in manager["httpFilters"][1]["typedConfig"]


def test_transparent_listeners_are_found_by_either_name() -> None:
    resources = Resources(document(FOLDER / "2.14/kubernetes/client-0.before.json"))
    for name in ("outbound:passthrough:ipv4", "self_transparentproxy_passthrough_outbound_ipv4"):
        match = {"listenerName": name, "origin": "transparent"}
        effect = change(resources, "networkFilter", operation="AddFirst", match=match, value={"name": "tap"})
        assert effect.met == {"outbound:passthrough:ipv4": 1}
    origins = {each.name: each.origin for each in resources.clusters.values()}
    assert {name for name, origin in origins.items() if origin == "outbound"} == {
        "default_models_ml_default_msvc_8500",
        "default_models_ml_default_msvc_8501",
    }
    assert set(origins.values()) == {"outbound", "transparent"}


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({}, "exactly one of cluster, listener"),
        ({"cluster": {}, "listener": {}}, "exactly one of"),
        ({"cluster": {"operation": "AddFirst", "value": "{}"}}, "operation: 'AddFirst' is none of Add, Remove, Patch"),
        ({"cluster": {"operation": "Add", "match": {"name": "x"}, "value": "{}"}}, "nothing is matched"),
        ({"cluster": {"operation": "Add"}}, "Add takes a value"),
        ({"cluster": {"operation": "Patch"}}, "exactly one of value and jsonPatches"),
        ({"cluster": {"operation": "Remove", "value": "{}"}}, "Remove takes neither"),
        ({"cluster": {"operation": "Remove", "match": {"listenerName": "x"}}}, "a cluster is matched by origin, name"),
        ({"httpFilter": {"operation": "AddBefore", "value": "{}"}}, "AddBefore needs the name of a filter"),
        ({"virtualHost": {"operation": "Patch", "value": "{}"}}, "match: it is required"),
        ({"virtualHost": {"operation": "Add", "match": {"name": "x"}, "value": "{}"}}, "nothing is matched by name"),
        ({"cluster": {"operation": "Add", "value": {"name": "x"}}}, "YAML in a text is expected"),
        ({"cluster": {"operation": "Add", "value": "a: ["}}, "no YAML"),
        ({"cluster": {"operation": "Patch", "jsonPatches": [{"op": "test", "path": "/a"}]}}, "jsonPatches[0].op"),
        ({"cluster": {"operation": "Patch", "jsonPatches": [{"op": "add", "path": "a"}]}}, "starts with /"),
        ({"cluster": {"operation": "Patch", "jsonPatches": [{"op": "add", "path": "/a"}]}}, "add needs one"),
    ],
)
def test_what_kuma_refuses_is_refused(item: Any, error: str) -> None:
    with pytest.raises(EnvoyTypeError) as raised:
        read_modification(item, "m")
    assert error in str(raised.value)
