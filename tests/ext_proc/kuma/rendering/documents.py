"""The committed policies, read: what stands in which document, and what Envoy would take of it."""

import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import betterproto2
import yaml
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Filter, Listener
from envoy_data_plane.envoy.config.route.v3 import VirtualHost
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

FOLDER = Path(__file__).resolve().parents[4] / "kuma-policies"
VERSIONS = ("2.13", "2.14", "3.0")
ENVIRONMENTS = ("kubernetes", "universal")
FOLDERS = tuple(f"{environment}/{version}" for environment in ENVIRONMENTS for version in VERSIONS)

TYPES: dict[str, type[betterproto2.Message]] = {
    "cluster": Cluster,
    "listener": Listener,
    "networkFilter": Filter,
    "httpFilter": HttpFilter,
    "virtualHost": VirtualHost,
}

Document = dict[str, Any]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def renderings() -> dict[str, str]:
    """What the generator writes: path -> text."""
    found: dict[str, str] = runpy.run_path(str(FOLDER / "generate.py"))["renderings"]()
    return found


@cache
def documents(path: str) -> tuple[Document, ...]:
    """The documents of one file."""
    return tuple(yaml.load_all(renderings()[path], _LOADER))


def all_documents(folder: str) -> Iterator[tuple[str, Document]]:
    """Every policy of a folder: its file's name, and itself."""
    for path in renderings():
        if path.startswith(f"{folder}/") and not path.endswith("kustomization.yaml"):
            for document in documents(path):
                yield path.removeprefix(f"{folder}/"), document


def kind(document: Document) -> str:
    return str(document.get("kind") or document["type"])


def modifications(folder: str, role: str) -> list[tuple[str, Document]]:
    """The modifications of a MeshProxyPatch: kind, and what it says, its value read."""
    (document,) = documents(f"{folder}/mesh-proxy-patch-{role}.yaml")
    found = []
    for modification in document["spec"]["default"]["appendModifications"]:
        ((name, content),) = modification.items()
        found.append((name, content | {"value": yaml.load(content["value"], _LOADER)}))
    return found
