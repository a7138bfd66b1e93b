"""The choice among a model's candidates: by residency, bound, group of places, zone, step of load and place."""

from collections.abc import Callable, Collection

from mesh.node import ProtocolKind
from mesh.routing.load import NodeLoad
from mesh.routing.shortlist import NodeState, Shortlist

Rank = Callable[[NodeLoad], tuple[bool, int]]
"""Whether one more call would bring a node over its bound, and in which step its load is: `Loads.rank`."""


def choose(shortlist: Shortlist, width: int, want: int, rank: Rank) -> list[NodeState]:
    """The best `want` living seats of a shortlist, for a model that is spread over `width` nodes.

    Looks no further than the group in which enough are found within bounds.
    """
    chosen: list[NodeState] = []
    for places, seats in shortlist.tiers:
        missing, last = want - len(chosen), -1
        within: list[tuple[int, bool, int, int, NodeState]] = []
        beyond: list[tuple[int, bool, int, int, NodeState]] = []
        for place, seat in zip(places, seats, strict=True):
            group = place // width
            if group != last:
                if len(within) >= missing:
                    break
                last = group
            if seat.alive:
                over, step = rank(seat.load)
                (beyond if over else within).append((group, seat.remote, step, place, seat))
        within.sort()  # places differ, so seats are never compared
        if len(within) < missing:
            beyond.sort()
            within += beyond
        chosen += [key[4] for key in within[:missing]]
        if len(chosen) == want:
            break
    return chosen


def why_none(seats: Collection[NodeState], model: str, kind: ProtocolKind) -> str:
    """One sentence fit for a client: why of all these seats none can be chosen."""
    if not seats:
        return "No model server is known."
    if not any(seat.alive for seat in seats):
        return "No model server is alive."
    if not any(seat.alive and seat.node.endpoint(kind) for seat in seats):
        return f"No model server that speaks {kind} is alive."
    return f"No model server that holds {model!r} is alive."
