"""The choice among a model's candidates: by residency, bound, group of ranks, zone, step of load and rank."""

from collections.abc import Callable, Collection

from mesh.node import Node, ProtocolKind
from mesh.routing.load import NodeLoad
from mesh.routing.rendezvous import nearest
from mesh.routing.shortlist import NodeState, Shortlist

Pressure = Callable[[NodeLoad], tuple[bool, int]]
"""Whether one more call would bring a node over its bound, and in which step its load is: `Loads.pressure`."""


def choose(shortlist: Shortlist, spread: int, want: int, pressure: Pressure) -> list[NodeState]:
    """The best `want` living nodes of a shortlist, best first, for a model spread over `spread` nodes (1 or more).

    `shortlist.tiers` are walked in their order, and each tier, sorted by rank, in groups of `spread` ranks: group 0 is
    ranks 0 to spread - 1 of the rendezvous order, dead nodes and those of other tiers counted, so that no node's death
    moves another to a better group. Within a tier the nodes within their load bound come first, then those beyond it;
    among either the key is (group, remote, step of load, rank). Looks no further than the group in which `want` are
    found within bounds. Fewer than `want`, or none, where no more are alive.
    """
    chosen: list[NodeState] = []
    for ranks, nodes in shortlist.tiers:
        missing, last = want - len(chosen), -1
        within: list[tuple[int, bool, int, int, NodeState]] = []
        beyond: list[tuple[int, bool, int, int, NodeState]] = []
        for rank, node in zip(ranks, nodes, strict=True):
            group = rank // spread
            if group != last:
                if len(within) >= missing:
                    break
                last = group
            if node.alive:
                over, step = pressure(node.load)
                (beyond if over else within).append((group, node.remote, step, rank, node))
        within.sort()  # ranks differ, so nodes are never compared
        if len(within) < missing:
            beyond.sort()
            within += beyond
        chosen += [key[4] for key in within[:missing]]
        if len(chosen) == want:
            break
    return chosen


def settle(shortlist: Shortlist, key: bytes, most: int, holds: Callable[[Node], bool]) -> NodeState | None:
    """The living node on which the session of that key is to sit; None where no node of the shortlist is alive.

    Of the first tier with a living node: any of those that hold the model, or one of the first `most` where none does,
    and of these one in the same zone if there is any; which, says the key alone, and neither load nor demand. So edges
    that hear the same of the nodes choose alike.
    """
    for _, nodes in shortlist.tiers:
        alive = [node for node in nodes if node.alive]
        if not alive:
            continue
        if not holds(alive[0].node):
            alive = alive[:most]
        near = [node for node in alive if not node.remote] or alive
        first = nearest(key, ((node.node.id, node.node.weight) for node in near))
        return next(node for node in near if node.node.id == first)
    return None


def why_none(nodes: Collection[NodeState], model: str, kind: ProtocolKind) -> str:
    """One sentence fit for a client: why of all these nodes none can be chosen."""
    if not nodes:
        return "No model server is known."
    if not any(node.alive for node in nodes):
        return "No model server is alive."
    if not any(node.alive and node.node.endpoint(kind) for node in nodes):
        return f"No model server that speaks {kind} is alive."
    return f"No model server that holds {model!r} is alive."
