"""Our policies as patches of sidecars, and what those of the others leave in them."""

from functools import cache
from typing import Any

import yaml

from ext_proc.kuma.patching.modification import Modification, read_modification
from ext_proc.kuma.patching.resources import OUTBOUND, Resources, managers
from ext_proc.kuma.rendering.description import KNOWN_MAP, Environment, MeshDescription
from ext_proc.kuma.rendering.names import Naming
from ext_proc.kuma.rendering.patches import edge_patch, gateway_patch, node_patch
from ext_proc.kuma.rendering.versions import KumaVersion

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GATEWAY = "edge-gateway"
_PATCHES = {"edge": edge_patch, "node": node_patch}
_IDLE = "630s"


def modifications(sample: str, role: str) -> list[Modification]:
    """What our MeshProxyPatch of a role (`edge`, `node`, `gateway`) changes in the mesh of a sample ("2.14/kri-mtls").

    The maps of known calls are on, an edge's and a node's.
    """
    kuma, _, about = sample.partition("/")
    naming = Naming.KRI if about.startswith("kri") or kuma == "3.0" else Naming.LEGACY
    environment = Environment.KUBERNETES if about == "kubernetes" else Environment.UNIVERSAL
    return _modifications(KumaVersion(kuma), naming, environment, role)


def obey_traffic_policies(resources: Resources) -> None:
    """What MeshRetry and MeshTimeout of ours leave of the routes, which Kuma writes before it patches.

    No route has retries of its own, so that those of the patched virtual host hold, and none ends a call by its time.
    """
    for listener in resources.listeners.values():
        for manager in managers(listener.value) if listener.origin == OUTBOUND else ():
            for host in manager.get("routeConfig", {}).get("virtualHosts", ()):
                for route in host.get("routes", ()):
                    _obey(route.get("route", {}))


@cache
def _modifications(kuma: KumaVersion, naming: Naming, environment: Environment, role: str) -> list[Modification]:
    namespace = "ml" if environment is Environment.KUBERNETES else ""
    mesh = MeshDescription(
        kuma,
        environment,
        naming=naming,
        namespace=namespace,
        gateway=_GATEWAY,
        known=KNOWN_MAP,
        known_at_nodes=KNOWN_MAP,
    )
    patch = gateway_patch(mesh, _GATEWAY) if role == "gateway" else _PATCHES[role](mesh)
    items = yaml.load(patch.text(mesh), _LOADER)["spec"]["default"]["appendModifications"]
    return [read_modification(item, f"{role}[{index}]") for index, item in enumerate(items)]


def _obey(action: dict[str, Any]) -> None:
    action.pop("retryPolicy", None)
    action.update(timeout="0s", idleTimeout=_IDLE)
