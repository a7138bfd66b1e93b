"""What is to be another one of a recorded fleet, and the fleet that it makes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median_high

from ext_proc.broker.plan import AnswerMode
from ext_proc.errors import TbmsError
from ext_proc.recording.calls import RecordedNode

_AMOUNT = re.compile(r"([+-]?)(\d{1,6})")
MOST_NODES = 1000


@dataclass(frozen=True, slots=True)
class Amount:
    """A number, or with `relative` how many more (or fewer)."""

    number: int
    relative: bool = False

    def of(self, recorded: int) -> int:
        """The number in place of the one that was recorded."""
        return recorded + self.number if self.relative else self.number

    def __str__(self) -> str:
        return f"{self.number:+d}" if self.relative else str(self.number)


def read_amount(text: str, name: str) -> Amount:
    """`4`, `+2` or `-1`. Raises TbmsError."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise TbmsError(f"{name}: a number was expected, or one more or fewer such as +2 or -1 (found {text!r})")
    return Amount(int(found[1] + found[2]), bool(found[1]))


@dataclass(frozen=True, slots=True)
class FleetChange:
    """None, or True of `backups`, leaves what was recorded.

    `slots` are places for models of each node. `without` are ids of nodes that are not there; with fewer `nodes` those
    whose ids come last go, and more of them are like the others. `limit_ms` and `answer` are those of all races; the
    others are settings of `routing:` and `broker:`.
    """

    nodes: Amount | None = None
    without: tuple[str, ...] = ()
    slots: Amount | None = None
    replicas: int | None = None
    max_replicas: int | None = None
    limit_ms: float | None = None
    margin_ms: float | None = None
    answer: AnswerMode | None = None
    hedge_share: float | None = None
    hedge_burst_ms: float | None = None
    backups: bool = True

    @property
    def name(self) -> str:
        """What is changed, in the words of the command line; empty where nothing is."""
        told = [f"nodes {self.nodes}"] if self.nodes is not None else []
        told += [f"without {node_id}" for node_id in self.without]
        told += [f"slots {self.slots}"] if self.slots is not None else []
        for word in ("replicas", "max_replicas", "limit_ms", "margin_ms", "answer", "hedge_share", "hedge_burst_ms"):
            value = getattr(self, word)
            if value is not None:
                shown = f"{value:g}" if isinstance(value, float) else value
                told.append(f"{word.replace('_', '-')} {shown}")
        return ", ".join(told if self.backups else [*told, "no backups"])

    def fleet(self, nodes: Sequence[RecordedNode]) -> tuple[RecordedNode, ...]:
        """The nodes that there would be. Raises TbmsError where there would be none, or nobody knows what to add to."""
        changed = sorted((node for node in nodes if node.id not in self.without), key=lambda node: node.id)
        unknown = [node_id for node_id in self.without if all(node.id != node_id for node in nodes)]
        if unknown:
            known = ", ".join(sorted(node.id for node in nodes))
            raise TbmsError(f"without: no node {unknown[0]!r} was recorded; there were {known}")
        if self.nodes is not None:
            changed = _as_many(changed, self.nodes.of(len(changed)))
        if not changed:
            raise TbmsError("nodes: there would be none left")
        return tuple([self._with_slots(node) for node in changed])

    def _with_slots(self, node: RecordedNode) -> RecordedNode:
        if self.slots is None or not node.tells:
            return node
        if node.slots is None and self.slots.relative:
            raise TbmsError(f"slots: node {node.id!r} has told of no limit on its models, so none can be added to it")
        slots = self.slots.of(node.slots or 0)
        if slots < 1:
            raise TbmsError(f"slots: node {node.id!r} would have no place for a model")
        return replace(node, slots=slots)


def _as_many(nodes: list[RecordedNode], wanted: int) -> list[RecordedNode]:
    if wanted > MOST_NODES:
        raise TbmsError(f"nodes: more than {MOST_NODES} cannot be simulated")
    more = wanted - len(nodes)
    if more <= 0 or not nodes:
        return nodes[: max(wanted, 0)]
    slots = [node.slots for node in nodes if node.slots is not None]
    taken, number = {node.id for node in nodes}, 0
    added: list[RecordedNode] = []
    while len(added) < more:
        number += 1
        if f"new-{number}" not in taken:
            usual = median_high(slots) if slots else None
            added.append(replace(nodes[number % len(nodes)], id=f"new-{number}", slots=usual, held=()))
    return [*nodes, *added]
