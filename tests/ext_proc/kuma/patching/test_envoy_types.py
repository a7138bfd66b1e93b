"""Envoy's messages are read strictly, and written in one way."""

from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Metadata
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from ext_proc.kuma.patching.envoy_types import EnvoyTypeError, canonical, canonical_any, message_type

PROCESSOR = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"conectTimeout": "1s"}, "conectTimeout: Cluster has no such field; connectTimeout is meant, perhaps"),
        ({"ConnectTimeout": "1s"}, "ConnectTimeout: Cluster has no such field"),
        ({"connectTimeout": 1}, "connectTimeout: a duration such as 0.25s is expected, not 1"),
        ({"connectTimeout": "1m"}, "connectTimeout: a duration"),
        ({"type": "STATC"}, "type: 'STATC' is none of STATIC, STRICT_DNS"),
        ({"type": "EDS", "cluster_type": {"name": "x"}}, "cluster_type: only one of type and clusterType can be set"),
        ({"connectTimeout": "1s", "connect_timeout": "1s"}, "connect_timeout: the field is there twice"),
        ({"circuitBreakers": {"thresholds": {}}}, "circuitBreakers.thresholds: a list is expected"),
        ({"circuitBreakers": {"thresholds": [{"maxRequests": -1}]}}, "circuitBreakers.thresholds[0].maxRequests: -1"),
        ({"circuitBreakers": {"thresholds": [{"maxRequest": 1}]}}, "circuitBreakers.thresholds[0].maxRequest: "),
        ({"respectDnsTtl": "yes"}, "respectDnsTtl: true or false is expected, not 'yes'"),
        ({"name": 1}, "name: a text is expected, not 1"),
        ({"loadAssignment": []}, "loadAssignment: a mapping is expected (ClusterLoadAssignment), not []"),
        ([], "a mapping is expected (Cluster), not []"),
    ],
)
def test_what_is_no_cluster_is_told_with_its_place(value: Any, error: str) -> None:
    with pytest.raises(EnvoyTypeError) as raised:
        canonical(Cluster, value)
    assert error in str(raised.value)


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (
            {"@type": PROCESSOR, "messageTimeOut": "1s"},
            "typedConfig.messageTimeOut: ExternalProcessor has no such field",
        ),
        ({"@type": PROCESSOR, "processingMode": {"requestBodyMode": "STREAM"}}, "requestBodyMode: 'STREAM' is none of"),
        ({"messageTimeout": "1s"}, "typedConfig: '@type' is missing"),
        ({"@type": "type.googleapis.com/envoy.Nothing"}, "is no type of Envoy's API"),
        ({"@type": "type.googleapis.com/os.path.X"}, "is no type of Envoy's API"),
        ({"@type": "type.googleapis.com/envoy..x"}, "is no type of Envoy's API"),
    ],
)
def test_what_is_packed_is_read_as_well(typed: Any, error: str) -> None:
    with pytest.raises(EnvoyTypeError) as raised:
        canonical(HttpFilter, {"name": "x", "typedConfig": typed})
    assert error in str(raised.value)


def test_one_way_to_say_it() -> None:
    said = {
        "name": "c",
        "connect_timeout": "0.25s",
        "type": "STATIC",
        "respect_dns_ttl": False,
        "per_connection_buffer_limit_bytes": 5.0,
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", "max_requests": "7"}]},
        "eds_cluster_config": {"eds_config": {"ads": {}}},
    }
    assert canonical(Cluster, said) == {
        "name": "c",
        "connectTimeout": "0.250s",
        "type": "STATIC",
        "perConnectionBufferLimitBytes": 5,
        "circuitBreakers": {"thresholds": [{"maxRequests": 7}]},
        "edsClusterConfig": {"edsConfig": {"ads": {}}},
    }


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("1s", "1s"),
        ("1.50s", "1.500s"),
        ("0.0001s", "0.000100s"),
        ("1.000s", "1s"),
        ("-0.5s", "-0.500s"),
        ("3600s", "3600s"),
    ],
)
def test_durations_are_written_as_protobuf_writes_them(said: str, written: str) -> None:
    assert canonical(Cluster, {"connectTimeout": said})["connectTimeout"] == written


def test_types_of_protobufs_own() -> None:
    assert (
        canonical_any({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "0.1s"})["value"] == "0.100s"
    )
    with pytest.raises(EnvoyTypeError, match="stands in 'value'"):
        canonical_any({"@type": "type.googleapis.com/google.protobuf.Duration", "seconds": 1})
    metadata = {"filterMetadata": {"a": {"b": [1, None, "x", {"c": True}]}}}
    assert canonical(Metadata, metadata) == {"filterMetadata": {"a": {"b": [1.0, None, "x", {"c": True}]}}}
    assert message_type(PROCESSOR).__name__ == "ExternalProcessor"
