"""The files of the example mesh: as committed, one for each kind of policy, with reasons, and of least privilege."""

import re

import betterproto2
import pytest
import yaml

from tests.ext_proc.kuma.rendering.documents import (
    ENVIRONMENTS,
    FOLDER,
    FOLDERS,
    TYPES,
    all_documents,
    documents,
    kind,
    modifications,
    renderings,
)

ROLES = ("edge", "node", "gateway")


def test_committed_files_are_up_to_date() -> None:
    files = {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in FOLDER.glob("*/*/*.yaml")}
    assert files == renderings(), "run `make kuma-policies`"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_says_what_it_is_for_before_it_says_anything(folder: str) -> None:
    for path, text in renderings().items():
        if path.startswith(folder):
            for document in text.split("\n---\n"):
                assert re.match(r"# [A-Z`a-z]", document.removeprefix("---\n")), path


@pytest.mark.parametrize("role", ROLES)
def test_every_modification_has_its_reason_above_it(role: str) -> None:
    text = renderings()[f"universal/2.14/mesh-proxy-patch-{role}.yaml"]
    lines = text.splitlines()
    starts = [n for n, line in enumerate(lines) if re.fullmatch(r"      - [a-zA-Z]+:", line)]
    assert len(starts) == len(modifications("universal/2.14", role))
    assert all(lines[n - 1].startswith("      # ") for n in starts)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_policy_reaches_further_than_it_must(folder: str) -> None:
    """Callers, nodes, or one gateway: never the whole mesh, and none but the named callers are allowed."""
    for path, document in all_documents(folder):
        if kind(document) in ("ContainerPatch", "MeshService", "MeshOpenTelemetryBackend", "MeshIdentity", "Dataplane"):
            continue
        target = document["spec"]["targetRef"]
        if target["kind"] == "MeshGateway":
            assert target["name"] == "edge-gateway", path
        else:
            assert target["kind"] == "Dataplane", path
            assert target["labels"] in ({"app": "client"}, {"app": "models"}, {"app": "edge-gateway"}), path


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("role", ROLES)
def test_every_value_is_one_of_envoys_types_and_nothing_else(folder: str, role: str) -> None:
    """Kuma itself would drop a misspelt field in silence."""
    for name, content in modifications(folder, role):
        message = TYPES[name].from_dict(content["value"])
        assert message.to_dict(casing=betterproto2.Casing.SNAKE) == content["value"]


def test_a_misspelt_field_is_seen_at_any_depth() -> None:
    """The test before this one can fail."""
    listener = modifications("universal/2.14", "edge")[-1][1]["value"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_host"] = manager["route_config"].pop("virtual_hosts")
    with pytest.raises((KeyError, TypeError, ValueError)):
        TYPES["listener"].from_dict(listener)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_modification_is_made_twice(folder: str) -> None:
    for role in ROLES:
        seen = [
            (name, str(sorted(content.get("match", {}).items())), content["value"].get("name"))
            for name, content in modifications(folder, role)
        ]
        assert len(set(seen)) == len(seen)


def test_a_kustomization_applies_every_file_of_its_folder_in_order() -> None:
    for folder in (each for each in FOLDERS if each.startswith("kubernetes")):
        (content,) = documents(f"{folder}/kustomization.yaml")
        names = [path.removeprefix(f"{folder}/") for path in renderings() if path.startswith(f"{folder}/")]
        assert content["resources"] == [name for name in names if name != "kustomization.yaml"]
        # A pod that names a ContainerPatch which is not there is refused.
        assert content["resources"][0] == "container-patch.yaml"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_both_forms_of_a_policy_say_the_same(environment: str) -> None:
    for name in ("mesh-circuit-breaker", "mesh-metric", "mesh-trace"):
        specs = [[each["spec"] for each in documents(f"{one}/2.14/{name}.yaml")] for one in ENVIRONMENTS]
        text = str(specs[0]).replace(", 'namespace': 'ml'", "")
        assert text == str(specs[1])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_zone_may_take_every_policy(folder: str) -> None:
    """What is applied in a zone has to say so; Kubernetes' objects lie in the control plane's namespace."""
    for path, document in all_documents(folder):
        if kind(document) in ("ContainerPatch", "Dataplane"):
            continue
        metadata = document.get("metadata", document)
        assert metadata["labels"]["kuma.io/origin"] == "zone", path
        assert metadata.get("namespace", "kuma-system") == "kuma-system", path


def test_what_is_printed_is_one_stream_of_documents() -> None:
    for text in renderings().values():
        assert all(isinstance(document, dict) for document in yaml.safe_load_all(text))
