"""docs/kuma.md on VMs, typed as far as this machine goes, to sidecars as a live control plane made them."""

import shutil
from pathlib import Path

from integration.kuma.sidecars import SAMPLES
from tests.kuma_page import ROOT, type_section


def test_policies_of_machines_are_written_and_judged(tmp_path: Path) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "sidecars").mkdir()
    for name, sample in (("client-1", "client"), ("node-a", "node-a")):
        shutil.copy(SAMPLES / f"2.14/legacy-mtls/{sample}.before.json", tmp_path / f"sidecars/{name}.json")
    assert "0 errors\n" in type_section("VMs", tmp_path, {})
