"""Which node holds which models at the start, where each node has room for its share only."""

from collections.abc import Iterable, Sequence

from mesh.routing.rendezvous import Rendezvous


def shares(models: Iterable[str], nodes: Sequence[str]) -> dict[str, frozenset[str]]:
    """Each model goes to the first node of its order that has room; no node holds more than its even share."""
    names = sorted(models)
    room = -(-len(names) // len(nodes))
    ring = Rendezvous((node, 1.0) for node in nodes)
    held: dict[str, set[str]] = {node: set() for node in nodes}
    for model in names:
        order = (ring.ids[place] for place in ring.order(model))
        held[next(node for node in order if len(held[node]) < room)].add(model)
    return {node: frozenset(share) for node, share in held.items()}
