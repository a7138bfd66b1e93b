"""The choice among a model's candidates: by residency, bound, group of ranks, distance, step of load and rank."""

from collections.abc import Callable, Collection

from mesh.node import Node, ProtocolKind
from mesh.routing.load import Excess, NodeLoad
from mesh.routing.rendezvous import nearest
from mesh.routing.shortlist import Distance, NodeState, Shortlist

Pressure = Callable[[NodeLoad], tuple[int, int]]
"""What one more call would bring a node over (`Excess`), and in which step its load is: `Loads.pressure`."""

_Key = tuple[int, Distance, int, int, NodeState]


def choose(shortlist: Shortlist, spread: int, want: int, pressure: Pressure) -> list[NodeState]:
    """The best `want` living nodes of a shortlist, best first, for a model spread over `spread` nodes (1 or more).

    `shortlist.tiers` are walked in their order, and each tier, sorted by rank, in groups of `spread` ranks: group 0 is
    ranks 0 to spread - 1 of the rendezvous order, dead nodes and those of other tiers counted, so that no node's death
    moves another to a better group. Far nodes have the last ranks. Within a tier the nodes within their load bound and
    their zone's room come first, then those beyond the room, then those beyond the bound; among each the key is
    (group, distance, step of load, rank). Looks no further than the group in which `want` are found within bounds.
    Fewer than `want`, or none, where no more are alive.
    """
    chosen: list[NodeState] = []
    for ranks, nodes in shortlist.tiers:
        missing, last = want - len(chosen), -1
        within: list[_Key] = []
        crowded: list[_Key] = []
        beyond: list[_Key] = []
        for rank, node in zip(ranks, nodes, strict=True):
            group = rank // spread
            if group != last:
                if len(within) >= missing:
                    break
                last = group
            if node.alive:
                excess, step = pressure(node.load)
                keys = within if not excess else crowded if excess == Excess.ROOM else beyond
                keys.append((group, node.distance, step, rank, node))
        within.sort()  # ranks differ, so nodes are never compared
        if len(within) < missing:
            crowded.sort()
            beyond.sort()
            within += crowded + beyond
        chosen += [key[4] for key in within[:missing]]
        if len(chosen) == want:
            break
    return chosen


def settle(shortlist: Shortlist, key: bytes, most: int, holds: Callable[[Node], bool]) -> NodeState | None:
    """The living node on which the session of that key is to sit; None where no node of the shortlist is alive.

    Of the first tier with a living node: any of those that hold the model, or one of the first `most` where none does,
    and of these one in the same zone if there is any; which, says the key alone, and neither load nor demand. So edges
    that hear the same of the nodes choose alike. Far nodes only where no other lives in that tier.
    """
    for _, nodes in shortlist.tiers:
        alive = [node for node in nodes if node.alive]
        if not alive:
            continue
        alive = [node for node in alive if node.distance is not Distance.FAR] or alive
        if not holds(alive[0].node):
            alive = alive[:most]
        near = [node for node in alive if node.distance is Distance.NEAR] or alive
        first = nearest(key, ((node.node.id, node.node.weight) for node in near))
        return next(node for node in near if node.node.id == first)
    return None


def sooner(shortlist: Shortlist, first: NodeState, is_late: Callable[[Node], bool]) -> NodeState:
    """The node to which a call goes that would go to `first`, and has a limit.

    Where it would be late there, as it waits for a load, and `first` is not far: the best living far node at which it
    is not; `first` where there is none.
    """
    if first.distance is not Distance.FAR and is_late(first.node):
        for _, node in shortlist:
            if node.alive and node.distance is Distance.FAR and not is_late(node.node):
                return node
    return first


def why_none(nodes: Collection[NodeState], model: str, kind: ProtocolKind) -> str:
    """One sentence fit for a client: why of all these nodes none can be chosen."""
    if not nodes:
        return "No model server is known."
    if not any(node.alive for node in nodes):
        return "No model server is alive."
    if not any(node.alive and node.node.endpoint(kind) for node in nodes):
        return f"No model server that speaks {kind} is alive."
    return f"No model server that holds {model!r} is alive."
