"""Names that Kuma gives to the resources of a sidecar, in both of its naming modes.

Since 2.12 a proxy may have its resources named by KRI (Kuma resource identifier), and from 3.0 on every proxy does. The
route configuration of a MeshService, and the tag of its outbound listener, are its KRI in either mode.
"""

from enum import Enum


class Naming(Enum):
    """How the resources of a proxy are named; the value is its name on the command line."""

    LEGACY = "legacy"
    KRI = "kri"


UNIFIED_NAME = "kuma.io/unified-name"
"""The tag of an outbound listener whose value is the KRI of its service's port."""


def service_kri(mesh: str, zone: str, namespace: str, service: str, section: str) -> str:
    """The KRI of one port of a MeshService. `section` is the port's name, or its number where outbounds say numbers."""
    return f"kri_msvc_{mesh}_{zone}_{namespace}_{service}_{section}"


def service_cluster(mesh: str, zone: str, namespace: str, service: str, port: int) -> str:
    """The legacy name of the cluster of one port of a MeshService, in the sidecars that call it."""
    return f"{mesh}_{service}_{namespace}_{zone}_msvc_{port}"


def inbound_cluster(naming: Naming, section: str, port: int) -> str:
    """The cluster from a sidecar to the application behind it; `port` is where the application listens."""
    return f"self_inbound_dp_{section}" if naming is Naming.KRI else f"localhost:{port}"
