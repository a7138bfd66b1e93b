"""What kustomize makes of deploy/kubernetes: what a cluster would be given."""

import shutil
import subprocess
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import yaml

from ext_proc.config import Config, parse
from ext_proc.contract import KNOWN_FILTER
from ext_proc.known.map_file import MapWriter
from integration.stack.ports import free_port
from mesh.address import parse_address
from mesh.discovery.sources.kubernetes import KubernetesSettings
from tests.deploy.files import DEPLOY, OVERLAYS, Document, built, containers, named, of_kind, workloads

KUBERNETES = DEPLOY / "kubernetes"
GROUP_OF_KUMA_SIDECAR = 5678
WITH_TBMS = [
    ("sidecar", "client"),
    ("sidecar", "models"),
    ("sidecar-triton", "client"),
    ("sidecar-triton", "models"),
    ("per-host", "models"),
    ("per-host", "tbms-edge"),
    ("gateway", "gateway"),
    ("gateway", "models"),
]
"""(overlay, name) of every workload that has one of our servers."""


@cache
def all_workloads(overlay: str) -> list[Document]:
    return workloads(built(f"overlays/{overlay}"))


def workload_of(overlay: str, name: str) -> Document:
    (found,) = [each for each in all_workloads(overlay) if each["metadata"]["name"] == name]
    return found


def server_of(workload: Document) -> Document:
    (found,) = [each for each in containers(workload) if each["name"] == "tbms"]
    return found


def config_of(overlay: str, workload: Document) -> Config:
    """The configuration that is mounted into the server."""
    (volume,) = [each for each in workload["spec"]["template"]["spec"]["volumes"] if each["name"] == "tbms-config"]
    (text,) = named(built(f"overlays/{overlay}"), "ConfigMap", volume["configMap"]["name"])["data"].values()
    return parse(text, "tbms.yaml")


def test_no_other_workload_has_a_server() -> None:
    assert [
        (overlay, workload["metadata"]["name"])
        for overlay in OVERLAYS
        for workload in all_workloads(overlay)
        if any(each["name"] == "tbms" for each in containers(workload))
    ] == WITH_TBMS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_lies_in_one_namespace_that_is_made(overlay: str) -> None:
    documents = built(f"overlays/{overlay}")
    (namespace,) = of_kind(documents, "Namespace")
    others = {each["metadata"].get("namespace") for each in documents if each["kind"] != "Namespace"}
    assert others == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_container_has_more_rights_than_it_needs(overlay: str) -> None:
    for workload in all_workloads(overlay):
        pod = workload["spec"]["template"]["spec"]
        for container in containers(workload):
            who = f"{workload['metadata']['name']}/{container['name']}"
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, who
            assert security["readOnlyRootFilesystem"] is True, who
            assert security["capabilities"]["drop"] == ["ALL"], who
            profile = security.get("seccompProfile") or pod["securityContext"]["seccompProfile"]
            assert profile == {"type": "RuntimeDefault"}, who
            if who == "tbms-edge/folder":  # it makes root's folder the server's
                assert security["capabilities"]["add"] == ["CHOWN", "FOWNER"]
            else:
                assert security["runAsNonRoot"] is True, who
                assert security["runAsUser"] > 0, who
                assert "add" not in security["capabilities"], who


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_mount_has_its_volume_and_every_volume_its_config_map(overlay: str) -> None:
    documents = built(f"overlays/{overlay}")
    maps = {each["metadata"]["name"] for each in of_kind(documents, "ConfigMap")}
    for workload in workloads(documents):
        pod = workload["spec"]["template"]["spec"]
        claims = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())}
        volumes = {each["name"] for each in pod.get("volumes", ())} | claims
        mounted = {mount["name"] for each in containers(workload) for mount in each.get("volumeMounts", ())}
        assert mounted <= volumes
        assert {each["configMap"]["name"] for each in pod.get("volumes", ()) if "configMap" in each} <= maps


@pytest.mark.parametrize(("overlay", "name"), WITH_TBMS)
def test_probes_ask_the_admin_port_of_the_configuration(overlay: str, name: str) -> None:
    workload = workload_of(overlay, name)
    admin = parse_address(config_of(overlay, workload).server.admin)
    server = server_of(workload)
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        match server[probe]:
            case {"exec": {"command": command}}:
                assert admin.is_local
                assert command == ["python", "-m", "ext_proc.cli.health", str(admin), path]
            case {"httpGet": asked}:
                assert not admin.is_local
                assert asked == {"path": path, "port": admin.port}
            case other:
                pytest.fail(f"{probe}: {other}")


@pytest.mark.parametrize(("overlay", "name"), WITH_TBMS)
def test_a_drain_ends_before_the_pod_is_killed(overlay: str, name: str) -> None:
    workload = workload_of(overlay, name)
    seconds = config_of(overlay, workload).server.drain_seconds
    assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= seconds + 15


@pytest.mark.parametrize(("overlay", "name"), WITH_TBMS)
def test_the_sockets_folder_is_mounted_and_its_group_is_the_sidecars(overlay: str, name: str) -> None:
    workload = workload_of(overlay, name)
    config, server = config_of(overlay, workload), server_of(workload)
    mounts = {mount["mountPath"]: mount for mount in server["volumeMounts"]}
    for path in (config.server.listen, config.envoy.egress):
        if folder := parse_address(path).path.rpartition("/")[0]:
            assert "readOnly" not in mounts[folder]
    assert server["securityContext"]["runAsGroup"] == GROUP_OF_KUMA_SIDECAR


def test_an_edge_is_there_before_its_client_and_goes_after_it() -> None:
    for overlay, name in (("sidecar", "client"), ("gateway", "gateway")):
        assert server_of(workload_of(overlay, name))["restartPolicy"] == "Always"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_node_hands_over_while_its_model_server_lives(overlay: str) -> None:
    workload = workload_of(overlay, "models")
    server = server_of(workload)
    assert "restartPolicy" not in server, "native sidecars are told to go last"
    (model_server,) = [each for each in containers(workload) if each["name"] == "model-server"]
    admin = parse_address(config_of(overlay, workload).server.admin)
    assert f"/dev/tcp/{admin.host}/{admin.port})" in model_server["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_the_model_servers_wait_ends_when_nobody_listens_any_more() -> None:
    free = str(free_port())  # at the port of an edge somebody on this machine may listen
    for folder in ("tf-serving", "triton"):
        (workload,) = workloads(built(folder))
        (command,) = [
            each["lifecycle"]["preStop"]["exec"]["command"] for each in containers(workload) if "lifecycle" in each
        ]
        command = [word.replace("9904", free) for word in command]
        done = subprocess.run(command, timeout=20, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_edges_discover_the_ports_of_a_service_that_selects_the_nodes(overlay: str) -> None:
    documents = built(f"overlays/{overlay}")
    pods = named(documents, "StatefulSet", "models")["spec"]["template"]["metadata"]["labels"]
    sources: list[KubernetesSettings] = []
    for place, name in WITH_TBMS:
        if place == overlay:
            discovery = config_of(overlay, workload_of(overlay, name)).discovery
            sources += [each for each in discovery if isinstance(each, KubernetesSettings)]
    assert sources
    for source in sources:
        service = named(documents, "Service", source.service)
        assert service["metadata"]["namespace"] == source.namespace
        assert service["spec"]["selector"].items() <= pods.items()
        ports = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
        assert {source.grpc, source.rest, source.residency} <= ports.keys()
        node = config_of(overlay, workload_of(overlay, "models")).node
        assert node is not None
        assert node.publish is not None
        assert parse_address(node.publish).port == ports[str(source.residency)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_edges_are_let_in_to_every_port_that_they_use(overlay: str) -> None:
    documents = built(f"overlays/{overlay}")
    rule = named(documents, "NetworkPolicy", "models")["spec"]["ingress"][0]
    assert rule["from"][0]["podSelector"] == {"matchLabels": {"tbms": "edge"}}
    opened = {port["port"] for port in rule["ports"]}
    services = [each for each in of_kind(documents, "Service") if each["metadata"]["name"].startswith("models")]
    assert opened == {port["targetPort"] for port in chain.from_iterable(each["spec"]["ports"] for each in services)}
    for workload in all_workloads(overlay):
        if workload["metadata"]["name"] != "models":
            assert workload["spec"]["template"]["metadata"]["labels"]["tbms"] == "edge"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_discovery_may_list_and_watch_and_nothing_else(overlay: str) -> None:
    documents = built(f"overlays/{overlay}")
    (role,) = of_kind(documents, "Role")
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    assert role["rules"] == [rule]
    (binding,) = of_kind(documents, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    bound = {each["name"] for each in binding["subjects"]}
    edges = {each["spec"]["template"]["spec"]["serviceAccountName"] for each in all_workloads(overlay)} - {"models"}
    assert edges <= bound
    assert "models" not in bound
    assert not of_kind(documents, "ClusterRole", "ClusterRoleBinding")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_is_this_version_and_nobody_takes_the_latest(overlay: str) -> None:
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["version"]
    for workload in all_workloads(overlay):
        for container in containers(workload):
            image, _, tag = container["image"].rpartition(":")
            assert image
            assert tag != "latest"
            if image.endswith("/tbms"):
                assert tag == version


def test_the_map_that_lies_there_first_knows_nothing() -> None:
    file = KUBERNETES / "components/empty-map/known.pb"
    assert file.read_bytes() == MapWriter(1).write((), "empty")
    assert KNOWN_FILTER.encode() in file.read_bytes()


@pytest.mark.parametrize("overlay", ["sidecar", "sidecar-triton", "per-host"])
def test_under_kuma_a_pod_names_its_patches_and_has_their_volumes(overlay: str) -> None:
    for workload in all_workloads(overlay):
        template = workload["spec"]["template"]
        volumes = {each["name"] for each in template["spec"]["volumes"]}
        patches = template["metadata"]["annotations"]["kuma.io/container-patches"].split(",")
        assert patches[0] == "tbms-socket"
        assert "tbms" in volumes
        edge = workload["metadata"]["name"] != "models"
        assert ("tbms-known-map" in patches) == edge == ("tbms-map" in volumes)


def test_nodes_with_a_map_name_the_patch_that_lays_it_and_have_its_volume(tmp_path: Path) -> None:
    root = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, root)
    file = root / "overlays/sidecar/kustomization.yaml"
    file.write_text(file.read_text().replace("components/kuma\n", "components/kuma\n  - ../../components/node-map\n"))
    template = named(built("overlays/sidecar", root), "StatefulSet", "models")["spec"]["template"]
    assert template["metadata"]["annotations"]["kuma.io/container-patches"] == "tbms-socket,tbms-known-map"
    assert {"name": "tbms-map", "configMap": {"name": "tbms-map"}} in template["spec"]["volumes"]


BYSTANDER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: bystander}
spec:
  selector: {matchLabels: {app: bystander}}
  template:
    metadata: {labels: {app: bystander}}
    spec: {containers: [{name: app, image: example}]}
"""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workloads_without_a_label_are_left_alone(overlay: str, tmp_path: Path) -> None:
    root = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, root)
    (root / "base/bystander.yaml").write_text(BYSTANDER)
    with (root / "base/kustomization.yaml").open("a") as file:
        file.write("  - bystander.yaml\n")
    bystander = named(built(f"overlays/{overlay}", root), "Deployment", "bystander")
    assert bystander["metadata"].pop("namespace") == "ml"
    assert bystander == yaml.safe_load(BYSTANDER)


def test_clients_wait_for_the_edge_of_their_host() -> None:
    edge = config_of("per-host", workload_of("per-host", "tbms-edge"))
    pod = workload_of("per-host", "client")["spec"]["template"]["spec"]
    awaited = {each["hostPath"]["path"]: each["hostPath"]["type"] for each in pod["volumes"] if "hostPath" in each}
    here = {path.replace("/run/tbms-host", "/run/tbms") for path in (edge.server.listen, str(edge.known_file))}
    assert awaited == {
        "/run/tbms": "Directory", "/run/tbms/ext_proc.sock": "Socket", "/run/tbms/ext_proc.sock.known.pb": "File"
    }  # fmt: skip
    assert {path.removeprefix("unix:") for path in here} <= awaited.keys()


@pytest.mark.parametrize("kind", ["keda", "hpa"])
def test_what_scales_is_the_set_of_nodes(kind: str) -> None:
    (scaler,) = built(f"autoscaling/{kind}")
    target = scaler["spec"]["scaleTargetRef"]
    replicas = named(built("tf-serving"), target["kind"], target["name"])["spec"]["replicas"]
    least = scaler["spec"].get("minReplicaCount") or scaler["spec"]["minReplicas"]
    assert least == replicas
    assert "cpu" not in str(scaler)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_node_loads_models_as_its_model_server_wants_it(overlay: str) -> None:
    workload = workload_of(overlay, "models")
    node = config_of(overlay, workload).node
    (server,) = [each for each in containers(workload) if each["name"] == "model-server"]
    assert node is not None
    if node.cache.loader.api == "v2":
        assert "tritonserver" in server["image"]
        assert "--model-control-mode=explicit" in server["args"]
        assert f"--model-repository={node.cache.folder}/models" in server["args"]
    else:
        assert "tensorflow/serving" in server["image"]
        assert "--max_num_load_retries=0" in server["args"]
    assert {mount["name"] for mount in server["volumeMounts"] if mount["mountPath"] == str(node.cache.folder)} == {
        "models"
    }
    for address, port in ((node.cache.loader.address, "grpc"), (node.rest, "http")):
        assert {"name": port, "containerPort": parse_address(address).port} in server["ports"]
