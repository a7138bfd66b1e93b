"""Builds from their Go modules what tests/peers and tests/deploy run: `python integration/peers/from_source.py`.

A module comes without the folders of its repository that are modules of their own: what its go.mod replaces by such a
folder is taken as it was released. What is built stays in build/peers, under its version, so that it is built once; why
something was not built lies beside it, and is what its tests are skipped with. Standard library only.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILT = Path(__file__).parents[2] / "build/peers"
OLDEST_GO = (1, 26)
SECONDS = 20 * 60
"""All builds together, on two cores twice what they take. What is compiled by then Go keeps, and goes on from there."""
_GRACE_SECONDS = 60
_ENVIRONMENT = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=mod -buildvcs=false"}


@dataclass(frozen=True)
class Module:
    """A module, the commands of it that are built, and the folders of it that are taken as they are. `released`: the
    version of what it replaces by folders; None: the versions that its go.mod requires. `stamps`: -X of the linker."""

    path: str
    version: str
    commands: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    released: str | None = None
    stamps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last word of its path that is no major version."""
        return Path(re.sub(r"/v\d+$", "", self.path)).name

    def places(self) -> dict[str, Path]:
        """A command or folder -> where it is in build/peers, or will be. The one command of a module has its name."""
        names = {each: self.name if each in (".", "./cmd") else Path(each).name for each in self.commands}
        names |= {each: f"{self.name}-{Path(each).name}" for each in self.folders}
        return {each: BUILT / f"{name}-{self.version}" for each, name in names.items()}


_VERSION = "k8s.io/component-base/version"
KUBERNETES = Module(
    "k8s.io/kubernetes", "v1.36.3", commands=("./cmd/kube-apiserver", "./cmd/kubectl"), released="v0.36.3",
    stamps=(f"{_VERSION}.gitVersion=v1.36.3", f"{_VERSION}.gitMajor=1", f"{_VERSION}.gitMinor=36"),
)  # fmt: skip
# Only run here, to be tested against: its licence (BUSL-1.1) does not reach what talks to it.
CONSUL = Module("github.com/hashicorp/consul", "v1.20.6", commands=(".",))
# What an API has to know of KEDA to take its objects.
KEDA = Module("github.com/kedacore/keda/v2", "v2.20.2", folders=("config/crd/bases",))
# What reads compose files, which takes no container engine. The newest that every Go 1.26 builds.
COMPOSE = Module(
    "github.com/docker/compose/v5", "v5.2.0", commands=("./cmd",),
    stamps=("github.com/docker/compose/v5/internal.Version=v5.2.0",),
)  # fmt: skip
MODULES = (KEDA, COMPOSE, KUBERNETES, CONSUL)
"""The quick ones first."""


def place(module: Module, what: str) -> Path:
    """Where that command or folder of the module is. Raises FileNotFoundError, which says why it is not there."""
    path = module.places()[what]
    if not path.exists():
        told = _excuse(module)
        why = told.read_text() if told.exists() else f"`make peers` makes it, with Go {_dotted(OLDEST_GO)} or later"
        raise FileNotFoundError(f"{path.name} is not here: {why}")
    return path


class NotHere(Exception):
    """A module cannot be had on this machine, or not now, which is no fault of the project; the message says why."""


class DoesNotCompile(Exception):
    """A module cannot be built as we build it."""


def build(module: Module, deadline: float) -> None:
    """Makes what is not there yet, until then (of the monotonic clock). Raises NotHere and DoesNotCompile."""
    wanted = {what: path for what, path in module.places().items() if not path.exists()}
    if not wanted:
        return
    found = go_version()
    if found is None or found < OLDEST_GO:
        raise NotHere(f"there is no Go {_dotted(OLDEST_GO)} or later")
    scratch = BUILT / f"scratch-{module.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _build(module, wanted, scratch, deadline)
    except OSError as error:
        raise NotHere(str(error)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build(module: Module, wanted: dict[str, Path], scratch: Path, deadline: float) -> None:
    """In a folder of its own, which may be left as it is."""
    source, temporary = scratch / "source", scratch / "tmp"
    temporary.mkdir(parents=True)

    def go(*arguments: str, cwd: Path = source, fetches: bool = False) -> str:
        return _go(*arguments, cwd=cwd, temporary=temporary, deadline=deadline, fetches=fetches)

    print(f"fetching {module.path} {module.version}", flush=True)
    found = json.loads(go("mod", "download", "-json", f"{module.path}@{module.version}", cwd=scratch, fetches=True))
    shutil.copytree(found["Dir"], source)
    subprocess.run(["chmod", "-R", "u+w", source], check=True)
    for folder in module.folders:
        if folder in wanted:
            (source / folder).replace(wanted.pop(folder))
    if not wanted:
        return
    if edits := _without_folders(module, json.loads(go("mod", "edit", "-json"))):
        go("mod", "edit", *edits)
    go("list", "-deps", *wanted, fetches=True)  # fetches all that is missing, so that building needs no network
    stamps = " ".join(("-s", "-w", *(f"-X {stamp}" for stamp in module.stamps)))
    for command, path in wanted.items():
        print(f"building {path.name}", flush=True)
        unfinished = path.with_name(f"{path.name}.unfinished")
        go("build", "-trimpath", "-ldflags", stamps, "-o", str(unfinished), command)
        unfinished.replace(path)


def _without_folders(module: Module, document: dict[str, Any]) -> list[str]:
    """What `go mod edit` has to do to that go.mod."""
    replaced = {each["Old"]["Path"] for each in document.get("Replace") or () if each["New"]["Path"].startswith(".")}
    edits = [f"-dropreplace={path}" for path in sorted(replaced)]
    if module.released is not None:
        # Kubernetes requires them as v0.0.0, whether a workspace or a replacement says where they are.
        replaced |= {each["Path"] for each in document["Require"] if each["Version"] == "v0.0.0"}
        edits += [f"-replace={path}={path}@{module.released}" for path in sorted(replaced)]
    return edits


def _go(*arguments: str, cwd: Path, temporary: Path, deadline: float, fetches: bool) -> str:
    """What that command prints. Its words go to our own stderr where it fails."""
    with subprocess.Popen(
        ["go", *arguments],
        cwd=cwd,
        env={**os.environ, **_ENVIRONMENT, "GOTMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            printed, said = running.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _end(running)
            raise NotHere(
                f"that takes longer than {SECONDS // 60} minutes here; `make peers` goes on from there"
            ) from None
    if running.returncode:
        sys.stderr.write(said)
        raise _failure(said, fetches)
    return printed


def _end(running: subprocess.Popen[str]) -> None:
    """Go begins nothing new, and keeps what it has begun."""
    running.send_signal(signal.SIGINT)
    try:
        running.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()


def _failure(said: str, fetches: bool) -> NotHere | DoesNotCompile:
    last = (said.strip() or "Go says nothing").splitlines()[-1]
    if "no space left on device" in said:
        return NotHere("the disk is full")
    if "signal: killed" in said:
        return NotHere("the compiler was killed, as where memory is short")
    return NotHere(f"its modules cannot be fetched: {last}") if fetches else DoesNotCompile(last)


def go_version() -> tuple[int, int] | None:
    """Of the Go toolchain that is at hand; None where there is none."""
    if shutil.which("go") is None:
        return None
    told = subprocess.run(
        ["go", "env", "GOVERSION"], env={**os.environ, **_ENVIRONMENT}, capture_output=True, text=True
    )
    version = re.match(r"go(\d+)\.(\d+)", told.stdout)
    return (int(version[1]), int(version[2])) if version else None


def _excuse(module: Module) -> Path:
    return BUILT / f"{module.name}-{module.version}.not-here"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def main() -> int:
    """Builds all of them. What cannot be built here is said, and no failure; that one does not compile is."""
    BUILT.mkdir(parents=True, exist_ok=True)
    deadline, status = time.monotonic() + SECONDS, 0
    for module in MODULES:
        excuse = _excuse(module)
        excuse.unlink(missing_ok=True)
        try:
            build(module, deadline)
        except (NotHere, DoesNotCompile) as why:
            excuse.write_text(str(why))
            print(f"{module.path} {module.version} is not here: {why}. Its tests will be skipped.")
            status |= isinstance(why, DoesNotCompile)
    return status


if __name__ == "__main__":
    sys.exit(main())
