"""Protobuf's merge, with what Kuma makes of it."""

from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener
from google.protobuf import any_pb2, duration_pb2, struct_pb2

from ext_proc.kuma.patching.envoy_types import EnvoyTypeError
from ext_proc.kuma.patching.merging import merged, merged_any

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
RAW = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
OPTIONS = f"type.googleapis.com/{HTTP}"


def cluster(onto: Any, patch: Any, *, keyed: bool = False) -> Any:
    return merged(Cluster, onto, patch, keyed=keyed)


def test_scalars_are_replaced_and_messages_merged() -> None:
    onto = {"name": "a", "connectTimeout": "5s", "commonLbConfig": {"ignoreNewHostsUntilFirstHc": True}}
    patch = {"connectTimeout": "0.250s", "commonLbConfig": {"healthyPanicThreshold": {}}}
    assert cluster(onto, patch) == {
        "name": "a",
        "connectTimeout": "0.250s",
        "commonLbConfig": {"ignoreNewHostsUntilFirstHc": True, "healthyPanicThreshold": {}},
    }
    assert onto["connectTimeout"] == "5s"


def test_lists_are_appended_and_entries_of_maps_replaced() -> None:
    onto = {"typedExtensionProtocolOptions": {HTTP: {"@type": OPTIONS, "commonHttpProtocolOptions": {}}, "other": 1}}
    patch = {"typedExtensionProtocolOptions": {HTTP: {"@type": OPTIONS, "explicitHttpConfig": {}}}}
    wanted = {"typedExtensionProtocolOptions": {HTTP: {"@type": OPTIONS, "explicitHttpConfig": {}}, "other": 1}}
    assert cluster(onto, patch) == wanted
    listener = {"listenerFilters": [{"name": "a"}]}
    appended = merged(Listener, listener, {"listenerFilters": [{"name": "a"}]}, keyed=False)
    assert appended == {"listenerFilters": [{"name": "a"}, {"name": "a"}]}


def test_one_member_of_a_choice_takes_the_place_of_another() -> None:
    assert cluster({"type": "EDS"}, {"clusterType": {"name": "x"}}) == {"clusterType": {"name": "x"}}


def test_what_is_packed_in_a_message_is_replaced_as_a_whole() -> None:
    onto = {"transportSocket": {"name": "tls", "typedConfig": {"@type": TLS, "sni": "a", "allowRenegotiation": True}}}
    patch = {"transportSocket": {"typedConfig": {"@type": TLS, "sni": "b"}}}
    wanted = {"transportSocket": {"name": "tls", "typedConfig": {"@type": TLS, "sni": "b"}}}
    assert cluster(onto, patch) == wanted


def test_what_is_packed_and_empty_leaves_the_bytes_that_are_there() -> None:
    onto = {"transportSocket": {"typedConfig": {"@type": TLS, "sni": "a"}}}
    assert cluster(onto, {"transportSocket": {"typedConfig": {"@type": TLS}}}) == onto
    with pytest.raises(EnvoyTypeError, match="would keep the bytes"):
        cluster(onto, {"transportSocket": {"typedConfig": {"@type": RAW}}})
    # It is protobuf that does so.
    there, empty = any_pb2.Any(type_url="a", value=b"x"), any_pb2.Any(type_url="b")
    there.MergeFrom(empty)
    assert (there.type_url, there.value) == ("b", b"x")


def test_the_configuration_of_a_filter_is_merged_field_by_field() -> None:
    onto, patch = {"@type": TLS, "sni": "a", "allowRenegotiation": True}, {"@type": TLS, "sni": "b"}
    assert merged_any(onto, patch, keyed=False) == {"@type": TLS, "sni": "b", "allowRenegotiation": True}
    with pytest.raises(EnvoyTypeError, match=r"@type: the filter that is there is a .*UpstreamTlsContext"):
        merged_any(onto, {"@type": RAW}, keyed=False)


def test_thresholds_of_a_priority_are_one_only_where_kuma_knows_them_by_it() -> None:
    onto = {"circuitBreakers": {"thresholds": [{"maxRequests": 1024, "trackRemaining": True}]}}
    patch = {"circuitBreakers": {"thresholds": [{"maxRequests": 9}, {"priority": "HIGH", "maxRetries": 1}]}}
    high = {"priority": "HIGH", "maxRetries": 1}
    both = [{"maxRequests": 1024, "trackRemaining": True}, {"maxRequests": 9}, high]
    assert cluster(onto, patch) == {"circuitBreakers": {"thresholds": both}}
    one = [{"maxRequests": 9, "trackRemaining": True}, high]
    assert cluster(onto, patch, keyed=True) == {"circuitBreakers": {"thresholds": one}}


def test_durations_are_replaced_unlike_protobufs() -> None:
    assert cluster({"connectTimeout": "1.500s"}, {"connectTimeout": "2s"}) == {"connectTimeout": "2s"}
    there = duration_pb2.Duration(seconds=1, nanos=500)
    there.MergeFrom(duration_pb2.Duration(seconds=2))
    assert (there.seconds, there.nanos) == (2, 500)


def test_free_structures_are_merged_by_their_first_names() -> None:
    onto = {"metadata": {"filterMetadata": {"x": {"a": {"b": 1.0}}}}}
    patch = {"metadata": {"filterMetadata": {"x": {"c": 1.0}}}}
    assert cluster(onto, patch) == {"metadata": {"filterMetadata": {"x": {"c": 1.0}}}}
    there, more = struct_pb2.Struct(), struct_pb2.Struct()
    there.update({"a": {"b": 1}})
    more.update({"a": {"c": 1}, "d": 2})
    there.MergeFrom(more)
    assert dict(there["a"]) == {"c": 1}
