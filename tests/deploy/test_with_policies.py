"""deploy/ and kuma-policies/ speak of the same folders, patches and ports."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mesh.address import parse_address
from tests.deploy.files import DEPLOY, Document, built, configuration, workloads

POLICIES = DEPLOY.parent / "kuma-policies"
FOLDERS = sorted(POLICIES.glob("kubernetes/*"))

pytestmark = pytest.mark.skipif(not FOLDERS, reason="there are no policies in kuma-policies/")


def documents(folder: Path) -> Iterator[Document]:
    for file in sorted(folder.glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


def patches(folder: Path) -> dict[str, list[Document]]:
    found = [each for each in documents(folder) if each["kind"] == "ContainerPatch"]
    return {each["metadata"]["name"]: each["spec"]["sidecarPatch"] for each in found}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("overlay", ["sidecar", "sidecar-triton", "per-host"])
def test_pods_name_patches_that_there_are_and_have_what_these_mount(folder: Path, overlay: str) -> None:
    there = patches(folder)
    for workload in workloads(built(f"overlays/{overlay}")):
        template = workload["spec"]["template"]
        volumes = {each["name"] for each in template["spec"]["volumes"]}
        for name in template["metadata"]["annotations"]["kuma.io/container-patches"].split(","):
            mounts = [json.loads(step["value"]) for step in there[name] if step["path"] == "/volumeMounts/-"]
            assert {mount["name"] for mount in mounts} <= volumes


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_sidecars_look_for_sockets_and_map_where_the_servers_have_them(folder: Path) -> None:
    text = "\n".join(file.read_text() for file in folder.glob("mesh-proxy-patch-*.yaml"))
    for path in ("components/edge-sidecar", "components/node"):
        config = configuration(f"kubernetes/{path}/tbms.yaml")
        wanted = [parse_address(config.server.listen).path]
        if config.node is None:
            wanted += [str(config.known_file), parse_address(config.envoy.egress).path]
        assert [each for each in wanted if each not in text] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_metrics_are_read_at_the_admin_port(folder: Path) -> None:
    (port,) = {
        parse_address(configuration(f"kubernetes/components/{path}/tbms.yaml").server.admin).port
        for path in ("edge-sidecar", "node")
    }
    for each in documents(folder):
        if each["kind"] == "MeshMetric":
            told = [application["port"] for application in each["spec"]["default"].get("applications", ())]
            assert told in ([], [port])
