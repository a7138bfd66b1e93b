"""Judges the policies of this folder: `make policies-check`, or this file.

By Kuma's schemas, where KUMA_SCHEMAS names a folder with one subfolder for each version or `shared/kuma-schemas` lies
beside the checkout; and by the samples of live control planes. The committed files are for proxies that are named as
their Kuma names them by default; what is rendered for the other way of naming is tried on proxies that are named so.
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from generate import example

from ext_proc.cli.policies.check import show
from ext_proc.kuma.checking.report import Evidence, Report, check
from ext_proc.kuma.rendering.description import KNOWN_MAP, Environment
from ext_proc.kuma.rendering.files import render_policies
from ext_proc.kuma.rendering.names import Naming
from ext_proc.kuma.rendering.versions import KumaVersion

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
SAMPLES = CHECKOUT / "integration/kuma/samples"
UNITS = CHECKOUT / "deploy/systemd"


def schemas() -> Path | None:
    """A folder with Kuma's schemas, None where there is none."""
    if named := os.environ.get("KUMA_SCHEMAS"):
        return Path(named)
    beside = [folder / "shared/kuma-schemas" for folder in CHECKOUT.parents]
    return next((each for each in beside if each.is_dir()), None)


def judged() -> Report:
    """All of it together."""
    report, crds = Report(), schemas()
    # What lays the map for sidecars on machines stands in the units.
    lays = {"beside": (UNITS,)} if UNITS.is_dir() else {"laid": frozenset({KNOWN_MAP})}
    for version in KumaVersion:
        own = Naming.LEGACY if version.has_legacy_names else Naming.KRI
        samples = SAMPLES / version.value
        others = [samples / name for name in ("kubernetes", "gateway") if (samples / name).is_dir()]
        configs = (*sorted(samples.glob(f"{own.value}-*")), *others)
        report.add(check(HERE, [version.value], Evidence(crds, configs, **lays)))  # type: ignore[arg-type]
        if own is Naming.LEGACY:
            report.add(_by_kri(version, sorted(samples.glob("kri-*"))))
    if crds is None:
        report.notes.append(
            "Kuma's schemas are not here: no document was held against one; KUMA_SCHEMAS names their folder"
        )
    return report


def _by_kri(version: KumaVersion, configs: list[Path]) -> Report:
    mesh = replace(example(version, Environment.UNIVERSAL), naming=Naming.KRI)
    with tempfile.TemporaryDirectory() as name:
        for file, text in render_policies(mesh).items():
            (Path(name) / file).write_text(text, encoding="utf-8")
        return check(Path(name), [version.value], Evidence(None, configs, laid=frozenset({KNOWN_MAP})))


if __name__ == "__main__":
    sys.exit(show(judged()))
