"""`tbms policies check`: what it prints, and its exit status."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from ext_proc.cli.output import console, print_json
from ext_proc.errors import ConfigError
from ext_proc.kuma.checking.proxies import ProxyError
from ext_proc.kuma.checking.report import Evidence, Report, check
from ext_proc.kuma.checking.schemas import SchemaError
from ext_proc.kuma.rendering.versions import kuma_version

FOUND, UNABLE = 1, 2


def run(folder: Path, versions: Sequence[str], evidence: Evidence, *, as_json: bool = False) -> int:
    """Prints a line for each error and one that counts. 0: none; 1: some; 2: it could not be judged."""
    try:
        report = check(folder, [kuma_version("--kuma", each).value for each in versions], evidence)
    except (ConfigError, SchemaError, ProxyError, OSError) as error:
        typer.echo(str(error), err=True)
        return UNABLE
    if evidence.crds is None:
        report.notes.append("without --crds no document was held against a schema")
    if not evidence.configs:
        report.notes.append("without --config no patch was tried on a sidecar")
    return (show_json if as_json else show)(report)


def show(report: Report) -> int:
    """Prints a report; the exit status."""
    for finding in report.findings:
        typer.echo(str(finding))
    for note in report.notes:
        typer.echo(f"note: {note}")
    typer.echo(str(report))
    return FOUND if report.findings else 0


def show_json(report: Report) -> int:
    """Prints the same as one document; the exit status."""
    errors = [asdict(finding) | {"file": str(finding.file)} for finding in report.findings]
    looked_at = {"policies": report.policies, "versions": report.versions, "configs": report.configs}
    print_json(console(), {"ok": not errors, "errors": errors, "notes": report.notes, **looked_at})
    return FOUND if errors else 0
