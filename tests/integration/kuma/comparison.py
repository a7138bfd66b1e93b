"""What a control plane made of sidecars, held against what our imitation of its patching makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ext_proc.contract import KNOWN_FILTER
from ext_proc.kuma.checking.documents import read_folder
from ext_proc.kuma.checking.proxies import Proxy, order, selects
from ext_proc.kuma.checking.report import PATCH
from ext_proc.kuma.checking.rules import RBAC
from ext_proc.kuma.patching.applying import apply
from ext_proc.kuma.patching.modification import read_modification
from ext_proc.kuma.patching.resources import INBOUND, Resources, managers
from integration.kuma.bootstrap import ASSIGNMENT

ROUTER = "envoy.filters.http.router"
ASKS = "tbms"
_PATCHES = "mesh-proxy-patch-*.yaml"


def files(policies: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder that `kumactl apply` is for, in the order of docs/kuma.md: without patches, and patches."""
    patches = sorted(policies.glob(_PATCHES))
    return [each for each in sorted(policies.glob("mesh-*.yaml")) if each not in patches], patches


def documents(file: Path) -> list[Any]:
    return list(yaml.safe_load_all(file.read_text()))


def placed(file: Path, address: str) -> Any:
    """An example Dataplane, of a machine that has this address."""
    (document,) = documents(file)
    document["networking"]["address"] = address
    return document


def patched(policies: Path, kuma: str, proxy: Proxy) -> dict[str, dict[str, Any]]:
    """The resources of a proxy under all patches of a folder that select it, as our imitation has them."""
    resources = proxy.resources()
    patches = [each for each in read_folder(policies, kuma).documents if each.kind == PATCH]
    for policy in sorted(patches, key=order):
        if selects(policy, proxy):
            items = policy.spec["default"]["appendModifications"]
            apply([read_modification(each, policy.title) for each in items], resources, keyed=kuma == "3.0")
    return resources.document()


def filters(resources: Resources, origin: str) -> list[list[str]]:
    """The names of the HTTP filters of each listener of that origin, in their order."""
    listeners = [each for each in resources.listeners.values() if each.origin == origin]
    return [[one["name"] for one in each["httpFilters"]] for own in listeners for each in managers(own.value)]


def misplaced(names: Sequence[str], *, known: bool) -> str | None:
    """What is not as promised in a chain of HTTP filters, with the map of known calls or without; None where all is."""
    if list(names[-2:]) != [ASKS, ROUTER]:
        return f"{ASKS} is not right before {ROUTER}: {names}"
    if (KNOWN_FILTER in names) is not known:
        return f"{KNOWN_FILTER} is{' not' if known else ''} among them: {names}"
    first = min(at for at, name in enumerate(names) if name.startswith(ASKS))
    if RBAC in names[first:]:
        return f"{RBAC} is behind {names[first]}: {names}"
    return None


def is_settled(resources: Resources) -> bool:
    """Whether a sidecar has mTLS, as a node or towards `models`, and endpoints there: then only policies change it."""
    inbound, assignments = filters(resources, INBOUND), resources.document().get(ASSIGNMENT, {})
    called = {name: each.value for name, each in resources.clusters.items() if name in assignments and "models" in name}
    return (
        bool(inbound or called)
        and all(RBAC in each for each in inbound)
        and all("transportSocket" in each for each in called.values())
        and all(assignments[name].get("endpoints") for name in called)
    )


def refused(overview: Any, name: str) -> int:
    """How many configurations a sidecar has refused, by `GET /meshes/{mesh}/dataplanes/_overview` (TOTAL ERRORS)."""
    (own,) = [each for each in overview["items"] if each["name"] == name]
    subscriptions = own["dataplaneInsight"]["subscriptions"]
    return sum(int(each.get("status", {}).get("total", {}).get("responsesRejected", 0)) for each in subscriptions)
