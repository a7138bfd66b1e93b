"""What nodes are called: edges know a node by its id, the node itself knows its addresses only."""

import re
from collections.abc import Sequence

from ext_proc.admin.documents import StatusDocument

_ANY_ADDRESS = re.compile(r"(?:0\.0\.0\.0|\[::\])(?P<port>:\d+)")


def node_names(statuses: Sequence[tuple[str, StatusDocument]]) -> dict[str, str]:
    """The ids of the nodes among these admin ports, by the names of the ports: of those that an edge among them knows.

    An edge knows a node by where it follows it, which is the node's `node.publish`; bound on all addresses that is
    reached at the host of the admin port. The dashboard does the same (`ui/page/fleet.js`).
    """
    ids = {
        node["residency"]["address"]: node["id"]
        for _, status in statuses
        if status["role"] == "edge"
        for node in status["nodes"]
        if node["residency"] is not None
    }
    addresses = {name: _address(status.get("publish"), name) for name, status in statuses if status["role"] == "node"}
    return {name: ids[address] for name, address in addresses.items() if address in ids}


def _address(publish: str | None, admin: str) -> str | None:
    anywhere = _ANY_ADDRESS.fullmatch(publish or "")
    return publish if anywhere is None else f"{admin.rpartition(':')[0]}{anywhere['port']}"
