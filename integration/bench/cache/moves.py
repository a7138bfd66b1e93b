"""Which models a router sends elsewhere when a node leaves, and when it comes back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mesh.routing.router import Router


@dataclass(frozen=True)
class Moves:
    """Of each node in turn: how many models have another first node once it has left the fleet, and once it has come
    back empty. `needless`: how many of all those neither left that node nor came to it.
    """

    left: list[int]
    joined: list[int]
    needless: int


def moves(router: Router, models: Sequence[str]) -> Moves:
    """Every node leaves and comes back. What the map says of the others stays as it is, loads are looked away from."""
    nodes = router.nodes
    left, joined, needless = [], [], 0
    for gone in nodes:
        held = router.cache_map.models(gone.id)
        before = _homes(router, models)
        router.update(node for node in nodes if node is not gone)
        without = _homes(router, models)
        router.update(nodes)
        router.cache_map.snapshot(gone.id, {})
        after = _homes(router, models)
        left.append(sum(without[model] != before[model] for model in models))
        joined.append(sum(after[model] != without[model] for model in models))
        needless += sum(without[model] != before[model] != gone.id for model in models)
        needless += sum(without[model] != after[model] != gone.id for model in models)
        router.cache_map.snapshot(gone.id, held)
    return Moves(left, joined, needless)


def _homes(router: Router, models: Iterable[str]) -> dict[str, str]:
    """The node that a call for each model would go to."""
    return {model: router.placements(model)[0].node.id for model in models}
