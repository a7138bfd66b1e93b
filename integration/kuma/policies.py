"""Our policies as patches of sidecars, and what those of the others leave in them."""

from collections.abc import Mapping
from typing import Any

import yaml

from ext_proc.kuma.patching.modification import Modification, read_modification
from ext_proc.kuma.patching.resources import Resources, managers
from ext_proc.kuma.rendering.description import KNOWN_MAP, Environment, MeshDescription
from ext_proc.kuma.rendering.files import render_policies
from ext_proc.kuma.rendering.names import Naming
from ext_proc.kuma.rendering.versions import kuma_version

_IDLE = "630s"


def mesh_of(sample: str) -> MeshDescription:
    """The mesh of a sample such as "2.14/kri-mtls", with the map of known calls on."""
    kuma, _, about = sample.partition("/")
    naming = Naming.KRI if about.startswith("kri") or kuma == "3.0" else Naming.LEGACY
    environment = Environment.KUBERNETES if about == "kubernetes" else Environment.UNIVERSAL
    return MeshDescription(
        kuma_version(kuma),
        environment,
        naming=naming,
        namespace="ml" if environment is Environment.KUBERNETES else "",
        gateway="edge-gateway",
        known=KNOWN_MAP,
    )


def modifications(mesh: MeshDescription, role: str) -> list[Modification]:
    """What the MeshProxyPatch of a role (`edge`, `node`, `gateway`) changes, as it is rendered."""
    document = yaml.safe_load(render_policies(mesh)[f"mesh-proxy-patch-{role}.yaml"])
    items = document["spec"]["default"]["appendModifications"]
    return [read_modification(item, f"{role}[{index}]") for index, item in enumerate(items)]


def obey_traffic_policies(resources: Resources) -> None:
    """What MeshRetry and MeshTimeout of ours leave of the routes, which Kuma writes before it patches.

    No route has retries of its own, so that those of the patched virtual host hold, and none ends a call by its time.
    """
    for listener in resources.listeners.values():
        if listener.origin != "outbound":
            continue
        for manager in managers(listener.value):
            for host in manager.get("routeConfig", {}).get("virtualHosts", ()):
                for route in host.get("routes", ()):
                    _obey(route.get("route", {}))


def _obey(action: Mapping[str, Any]) -> None:
    if isinstance(action, dict):
        action.pop("retryPolicy", None)
        action.update(timeout="0s", idleTimeout=_IDLE)
