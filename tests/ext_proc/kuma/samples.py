"""The samples of live control planes, as tests need them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ext_proc.kuma.patching.modification import Modification, read_modification
from integration.kuma.sidecars import SAMPLES as FOLDER


@dataclass(frozen=True)
class Sample:
    """The sidecar of one proxy: its resources without patches, with them, and the policy that was applied."""

    before: Path
    after: Path
    policy: Path

    def __str__(self) -> str:
        return str(self.after.relative_to(FOLDER)).removesuffix(".after.json")

    @property
    def kuma(self) -> str:
        return self.after.relative_to(FOLDER).parts[0]


def samples() -> list[Sample]:
    """Every pair of resources before and after a patch."""
    found = []
    for after in sorted(FOLDER.rglob("*.after.json")):
        before, here = after.with_name(after.name.replace(".after.", ".before.")), after.parent
        if here.name == "zones":
            continue  # without a before
        if here.name == "composite":
            before = here.parent / "legacy-plain" / "client.before.json"
        applied = here / "applied" if (here / "applied").is_dir() else here.parent / "applied"
        role = "edge" if after.name.startswith("client") else "node"
        found.append(Sample(before, after, applied / f"mpp-{role}.yaml"))
    return found


def document(file: Path) -> Any:
    return json.loads(file.read_text())


def modifications(policy: Path) -> list[Modification]:
    items = yaml.safe_load(policy.read_text())["spec"]["default"]["appendModifications"]
    return [read_modification(item, f"[{index}]") for index, item in enumerate(items)]
