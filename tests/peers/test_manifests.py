"""Every manifest that an operator applies, applied to a real kube-apiserver with Kuma's own CRDs: server-side, and with
fields that a schema does not know as errors."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.peers.from_source import KEDA, place
from integration.peers.kube_apiserver import KubeApiserver
from integration.stack.process import ProcessError

ROOT = Path(__file__).parents[2]
KUMA = {"2.13": "v2.13.*", "2.14": "v2.14.*", "3.0": "*3.0*"}
"""Version of Kuma -> the folder of its CRDs, among those that lie beside this checkout."""


def kustomizations(folder: str) -> list[Any]:
    """Every folder that `kubectl apply -k` takes; one that says why there is none."""
    found = [
        file.parent
        for file in sorted((ROOT / folder).rglob("kustomization.yaml"))
        if yaml.safe_load(file.read_text()).get("kind") != "Component"
    ]
    absent = pytest.param(None, marks=pytest.mark.skip(reason=f"{folder} has nothing to apply"))
    return [pytest.param(path, id=path.relative_to(ROOT / folder).as_posix()) for path in found] or [absent]


async def install_kuma(api: KubeApiserver, version: str) -> None:
    """The CRDs of that version, in place of those of any other."""
    beside = [path for parent in ROOT.parents for path in (parent / "shared/kuma-schemas").glob(KUMA[version])]
    if not beside:
        pytest.skip(f"Kuma's CRDs of {version} are not here: no ../shared/kuma-schemas")
    listed = (await api.kubectl("get", "crd", "-o", "name")).split()
    if stale := [name for name in listed if name.endswith(".kuma.io")]:
        await api.kubectl("delete", *stale)
    await _install(api, beside[0] / "crds")


async def install_keda(api: KubeApiserver) -> None:
    """The CRDs of the version that is fetched with the control planes."""
    try:
        crds = place(KEDA, "config/crd/bases")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    await _install(api, crds)


async def _install(api: KubeApiserver, crds: Path) -> None:
    await api.kubectl("apply", "--server-side", "-f", crds)
    await api.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")


async def apply(api: KubeApiserver, folder: Path) -> int:
    """Applies a folder as an operator does, in namespaces that are there; how many objects that were."""
    documents = [each for each in yaml.safe_load_all(await api.kubectl("kustomize", folder)) if each]
    for namespace in sorted({document["metadata"].get("namespace", "default") for document in documents}):
        await api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    said = await api.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", folder)
    assert len(said.splitlines()) == len(documents), said
    return len(documents)


@pytest.mark.parametrize("version", KUMA)
async def test_kumas_policies_are_taken_by_kumas_own_schemas(version: str, api: KubeApiserver) -> None:
    folder = ROOT / "kuma-policies/kubernetes" / version
    if not folder.exists():
        pytest.skip(f"kuma-policies/kubernetes has no {version}")
    await install_kuma(api, version)
    assert await apply(api, folder)


async def test_a_field_that_the_schema_does_not_know_is_refused(api: KubeApiserver, tmp_path: Path) -> None:
    """What makes the tests beside it able to fail."""
    await install_kuma(api, "2.14")
    policy = {
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshTimeout", "metadata": {"name": "misspelt", "namespace": "ml"},
        "spec": {"targetRef": {"kind": "Mesh"}, "from": [{"targetRef": {"kind": "Mesh"}, "defualt": {}}]},
    }  # fmt: skip
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    (tmp_path / "kustomization.yaml").write_text("resources: [policy.yaml]\n")
    with pytest.raises(ProcessError, match="defualt"):
        await apply(api, tmp_path)


@pytest.mark.parametrize("folder", kustomizations("deploy/kubernetes"))
async def test_what_deploys_on_kubernetes_is_taken(folder: Path, api: KubeApiserver) -> None:
    listed = (await api.kubectl("get", "crd", "-o", "name")).split()
    named = "".join(file.read_text() for file in folder.rglob("*.yaml"))
    if "kuma.io" in named and not any(name.endswith(".kuma.io") for name in listed):
        await install_kuma(api, "2.14")
    if "keda.sh/" in named:
        await install_keda(api)
    assert await apply(api, folder)
