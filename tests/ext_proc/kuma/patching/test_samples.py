"""The imitation of Kuma's patching against what live control planes made: before + patch = after."""

import pytest

from ext_proc.kuma.patching.applying import apply
from ext_proc.kuma.patching.resources import Resources
from tests.ext_proc.kuma.samples import FOLDER, Sample, document, modifications, samples


@pytest.mark.parametrize("sample", samples(), ids=str)
def test_before_and_patch_make_after(sample: Sample) -> None:
    patched, after = Resources(document(sample.before)), Resources(document(sample.after)).document()
    before = patched.document()
    assert before != after
    effects = apply(modifications(sample.policy), patched, keyed=sample.kuma == "3.0")
    assert patched.document() == after
    assert all(effect.changed for effect in effects)


def test_every_version_name_and_security_is_among_them() -> None:
    found = {str(sample).rpartition("/")[0] for sample in samples()}
    assert found == {
        *(f"2.13/{names}-{security}" for names in ("legacy", "kri") for security in ("plain", "mtls")),
        *(f"2.14/{names}-{security}" for names in ("legacy", "kri") for security in ("plain", "mtls")),
        "2.14/composite",
        "2.14/kubernetes",
        "3.0/kri-plain",
        "3.0/kri-mtls",
    }
    assert len(samples()) == 2 * 11 + 1


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.after.json")), ids=lambda file: str(file.relative_to(FOLDER)))
def test_what_a_control_plane_says_is_canonical_already(file: object) -> None:
    said = document(file)  # type: ignore[arg-type]
    assert Resources(said).document() == said
