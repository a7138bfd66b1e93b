"""What differs from one Kuma to the next, in every policy but MeshProxyPatch."""

import pytest

from ext_proc.contract import NODE_HEADER
from tests.ext_proc.kuma.rendering.documents import ENVIRONMENTS, FOLDERS, Document, all_documents, documents, kind


def only(path: str) -> Document:
    (document,) = documents(path)
    return document


def test_a_caller_is_known_by_its_tags_in_2_13_and_by_its_identity_from_2_14_on() -> None:
    old = only("universal/2.13/mesh-traffic-permission.yaml")["spec"]["from"]
    assert [each["targetRef"]["tags"] for each in old] == [{"app": "client"}, {"kuma.io/service": "edge-gateway"}]
    assert all(each["targetRef"]["kind"] == "MeshSubset" for each in old)
    domain = "default.default.mesh.local"
    for version in ("2.14", "3.0"):
        (rule,) = only(f"universal/{version}/mesh-traffic-permission.yaml")["spec"]["rules"]
        assert rule["default"]["allow"] == [
            {"spiffeID": {"type": "Exact", "value": f"spiffe://{domain}/workload/{caller}"}}
            for caller in ("client", "edge-gateway")
        ]
        assert only(f"universal/{version}/mesh-identity.yaml")["spec"]["spiffeID"]["trustDomain"] == domain
    kubernetes = only("kubernetes/3.0/mesh-traffic-permission.yaml")["spec"]["rules"][0]["default"]["allow"]
    assert kubernetes[0]["spiffeID"]["value"] == f"spiffe://{domain}/ns/ml/sa/client"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_2_13_allows_by_from(environment: str) -> None:
    for version in ("2.14", "3.0"):
        assert all("from" not in document.get("spec", {}) for _, document in all_documents(f"{environment}/{version}"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_kumas_retries_and_time_limits_are_taken_off_calls_to_models(folder: str) -> None:
    first, *_ = documents(f"{folder}/mesh-retry.yaml")
    assert first["spec"]["to"][0]["default"] == {"http": {"numRetries": 0}, "grpc": {"numRetries": 0}}
    at_edge, at_node = documents(f"{folder}/mesh-timeout.yaml")
    http = at_edge["spec"]["to"][0]["default"]["http"]
    assert http["requestTimeout"] == "0s"
    assert float(http["streamIdleTimeout"].rstrip("s")) > 600
    assert float(at_node["spec"]["rules"][0]["default"]["http"]["streamIdleTimeout"].rstrip("s")) > 600


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_models_own_failure_ejects_no_node(folder: str) -> None:
    at_edge, _ = documents(f"{folder}/mesh-circuit-breaker.yaml")
    outliers = at_edge["spec"]["to"][0]["default"]["outlierDetection"]
    assert set(outliers["detectors"]) == {"gatewayFailures", "localOriginFailures"}
    assert outliers["healthyPanicThreshold"] == 0


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_services_are_named_before_3_0_and_found_by_labels_there(environment: str) -> None:
    for version in ("2.13", "2.14"):
        target = documents(f"{environment}/{version}/mesh-retry.yaml")[0]["spec"]["to"][0]["targetRef"]
        assert target["name"] == "models"
        assert target.get("namespace") == ("ml" if environment == "kubernetes" else None)
    target = documents(f"{environment}/3.0/mesh-retry.yaml")[0]["spec"]["to"][0]["targetRef"]
    assert target["labels"]["kuma.io/display-name"] == "models"
    assert "name" not in target


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_remote_node_has_one_rule_at_each_port(folder: str) -> None:
    route = only(f"{folder}/mesh-http-route.yaml")["spec"]
    assert [each["targetRef"]["sectionName"] for each in route["to"]] == ["http", "grpc"]
    for each, port in zip(route["to"], (8501, 8500), strict=True):
        for rule, node in zip(each["rules"], ("node-c", "node-d"), strict=True):
            (match,) = rule["matches"]
            assert match["headers"] == [{"name": NODE_HEADER, "type": "Exact", "value": node}]
            (backend,) = rule["default"]["backendRefs"]
            assert backend["port"] == port
            assert backend["labels"]["kuma.io/display-name"] == node
            assert backend["labels"]["kuma.io/zone"] == "zone-2"


def test_dataplanes_have_tags_before_3_0_and_none_there() -> None:
    for version in ("2.13", "2.14", "3.0"):
        for name in ("client-1", "node-a"):
            dataplane = only(f"universal/{version}/dataplane-{name}.yaml")
            inbounds = dataplane["networking"]["inbound"]
            assert inbounds  # without one it would be matched by no policy at all
            assert all(("tags" in inbound) is (version != "3.0") for inbound in inbounds)
            assert all(("protocol" in inbound) is (version != "2.13" and name == "node-a") for inbound in inbounds)


def test_a_service_finds_its_nodes_and_each_node_that_others_may_name() -> None:
    for version in ("2.13", "2.14", "3.0"):
        services = {
            each["name"]: each["spec"]["selector"] for each in documents(f"universal/{version}/mesh-service.yaml")
        }
        assert set(services) == {"models", "node-a", "node-b"}
        dataplane = only(f"universal/{version}/dataplane-node-a.yaml")
        for name in ("models", "node-a"):
            (how,) = services[name]
            wanted = services[name][how]
            if version == "2.13":
                assert how == "dataplaneTags"
                assert all(wanted.items() <= inbound["tags"].items() for inbound in dataplane["networking"]["inbound"])
            else:
                assert wanted["matchLabels"].items() <= dataplane["labels"].items()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_collector_is_a_resource_from_2_14_on(environment: str) -> None:
    for version in ("2.13", "2.14", "3.0"):
        folder = f"{environment}/{version}"
        kinds = {kind(document) for _, document in all_documents(folder)}
        assert ("MeshOpenTelemetryBackend" in kinds) is (version != "2.13")
        for name in ("mesh-metric", "mesh-trace"):
            backend = documents(f"{folder}/{name}.yaml")[0]["spec"]["default"]["backends"][0]["openTelemetry"]
            assert ("endpoint" in backend) is (version == "2.13")
            assert ("backendRef" in backend) is (version != "2.13")


def test_the_sidecar_finds_a_folder_and_an_empty_map() -> None:
    socket, known = documents("kubernetes/2.14/container-patch.yaml")
    assert [each["path"] for each in socket["spec"]["sidecarPatch"]] == ["/volumeMounts/-"]
    command = known["spec"]["sidecarPatch"][1]
    assert command["path"] == "/command"
    assert "/etc/tbms-map/known.pb /run/tbms/ext_proc.sock.known.pb" in command["value"]
    assert not [name for name, _ in all_documents("universal/2.14") if name.startswith("container")]
