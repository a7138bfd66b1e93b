"""What lies in deploy/, as the tests of it read it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.config import Config, parse
from integration.peers.from_source import KUBERNETES, place

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = ("sidecar", "sidecar-triton", "per-host", "gateway")
KUMA_DPS_PORTS = {9901, 9902, 9001, 15001, 15006, 15053, 5670}
"""Envoy's admin, readiness, probes, the transparent proxy, DNS and metrics: those of its pod, or of its VM."""

Document = dict[str, Any]


def configurations() -> dict[str, str]:
    """Path below deploy/ -> text of every configuration of a server of ours."""
    texts = {path.relative_to(DEPLOY).as_posix(): path.read_text() for path in sorted(DEPLOY.rglob("*.yaml"))}
    return {path: text for path, text in texts.items() if re.search("^server:", text, re.M)}


def configuration(path: str) -> Config:
    return parse((DEPLOY / path).read_text(), path)


@cache
def built(folder: str, root: Path = DEPLOY / "kubernetes") -> tuple[Document, ...]:
    """What kustomize makes of a folder below deploy/kubernetes, or below a copy of it."""
    done = subprocess.run([*_kustomize(), root / folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def _kustomize() -> tuple[str | Path, str]:
    if (kustomize := shutil.which("kustomize")) is not None:
        return kustomize, "build"
    if (kubectl := shutil.which("kubectl")) is not None:
        return kubectl, "kustomize"
    try:
        return place(KUBERNETES, "./cmd/kubectl"), "kustomize"
    except FileNotFoundError as error:
        pytest.skip(f"neither kustomize nor kubectl is installed, and {error}")


def of_kind(documents: tuple[Document, ...], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: tuple[Document, ...], kind: str, name: str) -> Document:
    (found,) = [each for each in of_kind(documents, kind) if each["metadata"]["name"] == name]
    return found


def workloads(documents: tuple[Document, ...]) -> list[Document]:
    return of_kind(documents, "Deployment", "StatefulSet", "DaemonSet")


def containers(workload: Document) -> Iterator[Document]:
    pod = workload["spec"]["template"]["spec"]
    yield from (*pod.get("initContainers", ()), *pod["containers"])
