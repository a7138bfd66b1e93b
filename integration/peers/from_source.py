"""Builds the control planes that tests/peers runs, from their Go modules: `python integration/peers/from_source.py`.

A module comes without the folders of its repository that are modules of their own: what its go.mod replaces by such a
folder is taken as it was released. What is built stays in build/peers, under its version, so that it is built once.
Standard library only.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILT = Path(__file__).parents[2] / "build/peers"
OLDEST_GO = (1, 26)
_ENVIRONMENT = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=mod -buildvcs=false"}


@dataclass(frozen=True)
class Module:
    """A module and the commands of it that are built. `released`: the version of what it replaces by folders; None: the
    versions that its go.mod requires. `stamps`: -X of the linker."""

    path: str
    version: str
    commands: tuple[str, ...]
    released: str | None = None
    stamps: tuple[str, ...] = ()

    def binaries(self) -> dict[str, Path]:
        """Name of a command -> where its binary is, or will be."""
        names = {command: Path(command).name if command != "." else Path(self.path).name for command in self.commands}
        return {command: BUILT / f"{name}-{self.version}" for command, name in names.items()}


_VERSION = "k8s.io/component-base/version"
KUBERNETES = Module(
    "k8s.io/kubernetes", "v1.36.3", ("./cmd/kube-apiserver", "./cmd/kubectl"), "v0.36.3",
    (f"{_VERSION}.gitVersion=v1.36.3", f"{_VERSION}.gitMajor=1", f"{_VERSION}.gitMinor=36"),
)  # fmt: skip
# Only run here, to be tested against: its licence (BUSL-1.1) does not reach what talks to it.
CONSUL = Module("github.com/hashicorp/consul", "v1.20.6", (".",))


def binary(module: Module, command: str) -> Path:
    """Where that command of the module is. Raises FileNotFoundError where it was not built."""
    path = module.binaries()[command]
    if not path.exists():
        raise FileNotFoundError(f"{path.name} was not built: make peers, with Go {_dotted(OLDEST_GO)} or later")
    return path


class ModulesAway(Exception):
    """The source of a module, or of what it needs, cannot be had here; the message names the module."""


def build(module: Module) -> None:
    """Builds what is not there yet. Raises ModulesAway, and CalledProcessError for what does not compile."""
    wanted = {command: path for command, path in module.binaries().items() if not path.exists()}
    if not wanted:
        return
    source = BUILT / f"source-{Path(module.path).name}"
    shutil.rmtree(source, ignore_errors=True)
    with _had(module):
        found = json.loads(_go("mod", "download", "-json", f"{module.path}@{module.version}"))
    shutil.copytree(found["Dir"], source)
    subprocess.run(["chmod", "-R", "u+w", source], check=True)
    try:
        _without_folders(module, source)
        with _had(module):  # all that is missing is fetched for this answer, so that building needs no network
            _go("list", "-deps", *wanted, cwd=source)
        stamps = " ".join(("-s", "-w", *(f"-X {stamp}" for stamp in module.stamps)))
        for command, path in wanted.items():
            print(f"building {path.name}", flush=True)
            unfinished = path.with_name(f"{path.name}.unfinished")
            _go("build", "-trimpath", "-ldflags", stamps, "-o", str(unfinished), command, cwd=source)
            unfinished.replace(path)
    finally:
        shutil.rmtree(source)


@contextmanager
def _had(module: Module) -> Iterator[None]:
    """A command that fetches, for the length of the block. Raises ModulesAway where it fails: Go has said why."""
    try:
        yield
    except subprocess.CalledProcessError:
        raise ModulesAway(f"{module.path} {module.version}") from None


def _without_folders(module: Module, source: Path) -> None:
    document: dict[str, Any] = json.loads(_go("mod", "edit", "-json", cwd=source))
    replaced = {each["Old"]["Path"] for each in document.get("Replace") or () if each["New"]["Path"].startswith(".")}
    edits = [f"-dropreplace={path}" for path in sorted(replaced)]
    if module.released is not None:
        # Kubernetes requires them as v0.0.0, whether a workspace or a replacement says where they are.
        replaced |= {each["Path"] for each in document["Require"] if each["Version"] == "v0.0.0"}
        edits += [f"-replace={path}={path}@{module.released}" for path in sorted(replaced)]
    if edits:
        _go("mod", "edit", *edits, cwd=source)


def _go(*arguments: str, cwd: Path | None = None) -> str:
    go = shutil.which("go") or "go"
    done = subprocess.run(
        [go, *arguments],
        cwd=cwd or BUILT,
        env={**os.environ, **_ENVIRONMENT},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout


def go_version() -> tuple[int, int] | None:
    """Of the Go toolchain that is at hand; None where there is none."""
    if shutil.which("go") is None:
        return None
    version = re.match(r"go(\d+)\.(\d+)", _go("env", "GOVERSION"))
    return (int(version[1]), int(version[2])) if version else None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def main() -> int:
    """Builds all of them. Without Go, or without the modules, it says so, and that is no failure; that one does not
    compile is.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    found = go_version()
    if found is None or found < OLDEST_GO:
        print(f"No Go {_dotted(OLDEST_GO)} or later here: tests/peers will be skipped, but for what is built already.")
        return 0
    for module in (KUBERNETES, CONSUL):
        try:
            build(module)
        except ModulesAway as away:
            print(f"{away} cannot be fetched: its tests in tests/peers will be skipped, unless it was built before.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
