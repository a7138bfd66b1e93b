"""Finds: what an answer of a service comes to, once every node in it was held against the rules of the configuration.

Services are not trusted: an entry that makes no node is left out with a sentence that says why, and the others stay.
"""

from ipaddress import ip_address
from typing import Any

from pydantic import ValidationError

from mesh.address import spelled
from mesh.discovery.merge import NodeSet
from mesh.discovery.settings import NodeSettings
from mesh.errors import MeshError
from mesh.names import quoted
from mesh.node import Node
from mesh.settings import fault_place, fault_words

MOST_ENTRIES = 20_000
"""Of one answer, whether they make nodes or not: more are refused as a whole."""
_SENTENCES = 100


class Finds:
    """Collects the nodes of one answer after another. Raises MeshError for more than MOST_ENTRIES in one.

    An entry that the last answer had as it is now was judged then: a service says all of its nodes again for one that
    changed, or each second.
    """

    def __init__(self) -> None:
        self._before: dict[str, tuple[dict[str, Any], Node]] = {}
        self._begin()

    def _begin(self) -> None:
        self._judged: dict[str, tuple[dict[str, Any], Node]] = {}
        self._nodes: list[Node] = []
        self._left_out: list[str] = []
        self._entries = 0

    def add(self, fields: dict[str, Any]) -> None:
        """An entry with the fields of `NodeSettings`, of whatever types the service gave them. It is kept."""
        self._count()
        name = fields.get("id")
        judged = self._before.get(name) if isinstance(name, str) else None
        if judged is None or judged[0] != fields:
            try:
                judged = fields, NodeSettings.model_validate(fields).node()
            except ValidationError as error:
                fault = error.errors(include_url=False, include_context=False)[0]
                where, said = fault_place(fault) or "entry", quoted(fault_words(fault), 200)
                self._leave_out(f"Node {quoted(str(name))}: {where}: {said}")
                return
        node = judged[1]
        self._judged[node.id] = judged
        self._nodes.append(node)

    def refuse(self, what: str, why: str) -> None:
        """An entry that cannot be read at all."""
        self._count()
        self._leave_out(f"{quoted(what)}: {why}")

    def node_set(self) -> NodeSet:
        """What came of the answer, which is whole. The next one begins."""
        found = NodeSet(tuple(self._nodes), tuple(self._left_out))
        self._before = self._judged
        self._begin()
        return found

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise MeshError(f"It answered with more than {MOST_ENTRIES} entries.")

    def _leave_out(self, sentence: str) -> None:
        if len(self._left_out) < _SENTENCES:
            self._left_out.append(sentence)


def joined(ip: str, port: int | None) -> str | None:
    """`ip:port`, IPv6 in brackets, or None without a port."""
    return None if port is None else spelled(ip, port)


def id_of_address(ip: str) -> str:
    """An address as a node's id: 10.0.0.3, and fd00-0-0-0-0-0-0-3 for fd00::3. What is no address stays as it is."""
    try:
        address = ip_address(ip)
    except ValueError:
        return ip
    if address.version == 4:
        return str(address)
    return "-".join(format(int(group, 16), "x") for group in address.exploded.partition("%")[0].split(":"))
