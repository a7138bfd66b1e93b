"""Kuma itself does with our policies what we say it does, where there is a container engine to run it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ext_proc.known.file import make_if_absent
from ext_proc.kuma.checking.proxies import OVERVIEW, read_proxies
from ext_proc.kuma.checking.report import Evidence, check
from ext_proc.kuma.patching.resources import INBOUND, OUTBOUND, Resources
from ext_proc.kuma.rendering.description import EGRESS, KNOWN_MAP
from integration.kuma.sidecars import SAMPLES
from tests.integration.conftest import need_engine
from tests.integration.eventually import comes_to
from tests.integration.kuma.comparison import documents, files, filters, is_settled, misplaced, patched, placed, refused
from tests.integration.kuma.control_plane import RELEASES, ControlPlane

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "deploy/systemd"
ADDRESSES = {"client-1": "127.0.1.1", "node-a": "127.0.1.2"}
MINUTE = 60.0


def configurations(plane: ControlPlane) -> dict[str, Any]:
    """What the control plane has for each sidecar at present, of those that it has heard of."""
    found = {name: plane.get(f"/{name}/_config") for name in ADDRESSES}
    return {name: each for name, each in found.items() if each is not None}


def apply_all(plane: ControlPlane, several: list[Path]) -> None:
    for file in several:
        own = documents(file)
        assert plane.apply(own).count(" Created\n") == len(own), file.name


def written(folder: Path, plane: ControlPlane, configs: Mapping[str, Any]) -> Path:
    """A folder for `tbms policies check --config`, as docs/kuma.md has it filled."""
    folder.mkdir()
    for name, config in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    (folder / OVERVIEW).write_text(json.dumps(plane.get("/_overview")))
    return folder


@pytest.mark.timeout(600)  # images are fetched, too
@pytest.mark.parametrize("kuma", RELEASES)
async def test_policies_are_taken_and_patch_as_we_say(kuma: str, tmp_path: Path) -> None:
    need_engine()
    policies = ROOT / "kuma-policies/universal" / kuma
    without, patches = files(policies)
    (tmp_path / "plane").mkdir()
    with ControlPlane(kuma, tmp_path / "plane") as plane:

        async def answers() -> bool:
            return plane.answers()

        async def settled() -> set[str]:
            return {name for name, each in configurations(plane).items() if is_settled(Resources(each))}

        async def asking() -> set[str]:
            found = {name: Resources(each) for name, each in configurations(plane).items()}
            return {name for name, each in found.items() if "tbms_ext_proc" in each.clusters}

        async def egress() -> bool:
            return (shared["client-1"] / Path(EGRESS).name).exists()

        async def as_before() -> bool:
            return configurations(plane) == before

        assert await comes_to(answers, True, MINUTE)
        # Kuma 2.13 has its mTLS from the mesh, later ones from MeshIdentity among the policies.
        mesh = "mesh-mtls.yaml" if kuma == "2.13" else "mesh-plain.yaml"
        plane.apply(documents(SAMPLES / kuma / "applied" / mesh))
        apply_all(plane, without)

        shared = {name: tmp_path / name for name in ADDRESSES}
        for name, address in ADDRESSES.items():
            shared[name].mkdir()
            make_if_absent(shared[name] / Path(KNOWN_MAP).name)
            (shared[name] / Path(KNOWN_MAP).name).chmod(0o644)
            plane.start_sidecar(placed(policies / f"dataplane-{name}.yaml", address), shared[name])
        assert await comes_to(settled, set(ADDRESSES), MINUTE) == set(ADDRESSES)
        before = configurations(plane)
        errors = {name: refused(plane.get("/_overview"), name) for name in ADDRESSES}
        sidecars = written(tmp_path / "sidecars", plane, before)
        report = check(policies, [kuma], Evidence(configs=[sidecars], beside=[UNITS]))
        # There is no gateway in this mesh.
        assert [str(each) for each in report.findings if "tbms-gateway" not in str(each)] == []

        apply_all(plane, patches)
        assert await comes_to(asking, set(ADDRESSES), MINUTE) == set(ADDRESSES)
        after = {name: Resources(each) for name, each in configurations(plane).items()}
        for proxy in read_proxies(sidecars, kuma):
            assert patched(policies, kuma, proxy) == after[proxy.file.stem].document()
        edges, nodes = filters(after["client-1"], OUTBOUND), filters(after["node-a"], INBOUND)
        assert [misplaced(each, known=True) for each in edges] == [None, None]
        assert [misplaced(each, known=False) for each in nodes] == [None, None]
        assert await comes_to(egress, True, MINUTE)
        assert {name: refused(plane.get("/_overview"), name) for name in ADDRESSES} == errors

        for file in patches:
            for each in documents(file):
                plane.kumactl("delete", "meshproxypatch", each["name"])
        assert await comes_to(as_before, True, MINUTE)
