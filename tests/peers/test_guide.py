"""docs/kuma.md on Kubernetes, typed as far as an API server goes: no pod comes of it."""

import shutil
from pathlib import Path

from integration.kuma.sidecars import SAMPLES
from integration.peers.from_source import KUBERNETES, place
from integration.peers.kube_apiserver import KubeApiserver
from tests.kuma_page import ROOT, type_section
from tests.peers.test_manifests import install_kuma


def checkout(folder: Path) -> None:
    """A checkout with what a reader brings along: manifests of a fleet, and what its sidecars are at present."""
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    serving, manifests = folder / "serving", ROOT / "deploy/kubernetes"
    serving.mkdir()
    shutil.copy(manifests / "tf-serving/statefulset.yaml", serving)
    shutil.copy(manifests / "client/deployment.yaml", serving)
    services = (manifests / "models/services.yaml").read_text().rpartition("---\n")[0]  # without the headless one
    (serving / "services.yaml").write_text(services)
    (serving / "kustomization.yaml").write_text("resources: [statefulset.yaml, deployment.yaml, services.yaml]\n")
    (folder / "sidecars").mkdir()
    for pod in ("client-0", "models-0"):
        shutil.copy(SAMPLES / f"2.14/kubernetes/{pod}.before.json", folder / f"sidecars/{pod}.json")
    (folder / "programs").mkdir()
    (folder / "programs/kubectl").symlink_to(place(KUBERNETES, "./cmd/kubectl"))


async def test_the_guide_is_typed(api: KubeApiserver, tmp_path: Path) -> None:
    await install_kuma(api, "2.14")
    await api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kuma-system"}})
    kinds = "deployments,statefulsets,networkpolicies,poddisruptionbudgets"
    await api.kubectl("-n", "ml", "delete", kinds, "--all")  # of other tests
    checkout(tmp_path)
    printed = type_section("Kubernetes", tmp_path, {"KUBECONFIG": str(api.kubeconfig)})
    assert "containerpatch.kuma.io/tbms-known-map created" in printed
    assert "meshproxypatch.kuma.io/tbms-node created" in printed
    assert "statefulset.apps/models created" in printed
    assert "networkpolicy.networking.k8s.io/models created" in printed
    assert "poddisruptionbudget.policy/models created" in printed
    assert 'meshproxypatch.kuma.io "tbms-edge" deleted' in printed
    kinds = "containerpatches,meshproxypatches,meshtimeouts,meshretries,meshcircuitbreakers"
    assert await api.kubectl("-n", "kuma-system", "get", kinds, "-o", "name") == ""
