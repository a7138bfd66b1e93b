"""Nodes of other zones of a Kuma mesh: MeshServices that stand for one node each, as this zone's control plane tells.

Dataplanes of other zones are not known here, and an Envoy sees one address for all of them, the zone's ingress. A node
there that has a MeshService of its own is reached by a route to it, which the header `x-tbms-node` chooses
(docs/zones.md).
"""

from collections.abc import Mapping
from typing import Any

from mesh.discovery.finds import Finds
from mesh.node import ProtocolKind

_ZONE, _ORIGIN, _NAME = "kuma.io/zone", "kuma.io/origin", "kuma.io/display-name"


def add_far_nodes(
    finds: Finds, items: list[Any], labels: Mapping[str, str], ports: Mapping[ProtocolKind, int | str]
) -> None:
    """Adds the nodes among MeshServices: those of other zones that have the labels and are available.

    `ports` are the name or the number of the port by protocol.
    """
    for item in items:
        try:
            fields = _fields(item, labels, ports)
        except (KeyError, TypeError, AttributeError):
            name = item.get("name") if isinstance(item, dict) else None
            finds.refuse(str(name), "it is not what a control plane says of a MeshService")
            continue
        if fields is not None:
            finds.add(fields)


def _fields(
    item: dict[str, Any], labels: Mapping[str, str], ports: Mapping[ProtocolKind, int | str]
) -> dict[str, Any] | None:
    """None for what is no node now. What is of this zone has this zone as its origin; its nodes have addresses."""
    said = item["labels"]
    if said.get(_ORIGIN) != "global" or any(said.get(label) != value for label, value in labels.items()):
        return None
    spec = item["spec"]
    if spec.get("state", "Available") != "Available":
        return None
    offered = {each for port in spec["ports"] for each in (port["port"], port.get("name"))}
    speaks = [kind for kind, wanted in ports.items() if wanted in offered]
    if not speaks:
        return None
    return {"id": said.get(_NAME, item["name"]), "zone": said[_ZONE], "reached_by": "header", "speaks": speaks}
