"""Shortlists: the candidates of each model, best first as far as calls and loads do not matter.

A shortlist depends on the model, the nodes and what they hold of the model. It is worked out at a model's first call,
remembered, and worked out anew once one of these has changed; the `choice` among its nodes is made for each call.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum

from mesh.bounded import Memo
from mesh.node import Node, ProtocolKind
from mesh.residency.cache_map import CacheMap
from mesh.residency.state import Residency
from mesh.routing.load import NodeLoad
from mesh.routing.rendezvous import Rendezvous

_KINDS: tuple[ProtocolKind, ...] = ("grpc", "rest")


class NodeState:
    """A node as the router sees it: what it is, whether it is alive, how far away, and how busy."""

    __slots__ = ("alive", "distance", "load", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.alive = True
        self.distance = Distance.NEAR
        self.load = NodeLoad(node.weight)

    def stands(self, node: Node, zone: str) -> None:
        """It is this node from now on, as seen from that zone (empty: from none)."""
        self.node = node
        self.load.weight = node.weight
        self.load.far = node.is_far
        elsewhere = bool(zone) and node.zone != zone
        self.distance = Distance.FAR if node.is_far else Distance.REMOTE if elsewhere else Distance.NEAR


class Distance(IntEnum):
    """How far away a node is. Of nodes that are equal otherwise a near one is preferred to a remote one; far ones,
    which are reached by the header, come after all others that can serve a call as well.
    """

    NEAR = 0
    REMOTE = 1
    FAR = 2


class Tier(IntEnum):
    """What a node can do for a model, best first.

    A model that is being unloaded, or that could not be loaded, is better asked for elsewhere. A node that goes is
    asked for what no other node holds yet, and for nothing that it would have to load.
    """

    HELD = 0
    HELD_BY_LEAVER = 1
    LOADING = 2
    ABSENT = 3
    DRAINING = 4
    FAILED = 5
    LEAVER = 6


_TIERS = {
    Residency.AVAILABLE: Tier.HELD,
    Residency.LOADING: Tier.LOADING,
    Residency.ABSENT: Tier.ABSENT,
    Residency.DRAINING: Tier.DRAINING,
    Residency.FAILED: Tier.FAILED,
}


class Shortlist:
    """The candidates of one model.

    `tiers` are the non-empty ones of `Tier`, best first: pairs (ranks, nodes) of equal length, both in ascending order
    of rank. A node's rank is its position in the model's rendezvous order (0 is the model's home) over all nodes that
    speak the protocol, dead ones and those of other tiers included: it depends on nothing but the model and the
    population, so no node's death changes the rank of another.

    `row` is the model's row of the cache map that the tiers follow from.
    """

    __slots__ = ("row", "tiers")

    def __init__(self, row: bytes | None, tiers: tuple[tuple[Sequence[int], tuple[NodeState, ...]], ...]) -> None:
        self.row = row
        self.tiers = tiers

    def __iter__(self) -> Iterator[tuple[int, NodeState]]:
        for ranks, nodes in self.tiers:
            yield from zip(ranks, nodes, strict=True)


class Shortlists:
    """Those of `models` models at least are remembered. `population` comes before any question."""

    def __init__(self, cache_map: CacheMap, models: int) -> None:
        self._cache_map = cache_map
        self._models = models
        self._rankings: dict[ProtocolKind, Ranking] = {}
        self._memos: dict[ProtocolKind, Memo[Shortlist]] = {}
        self._generation = -1

    def population(self, nodes: tuple[NodeState, ...]) -> None:
        """These are the nodes from now on. Where all of them speak both kinds, both share ranking and memo."""
        everyone = self._everyone = Ranking(nodes, self._cache_map)
        shared = Memo[Shortlist](self._models)
        for kind in _KINDS:
            speakers = tuple(node for node in nodes if node.node.endpoint(kind) is not None)
            whole = len(speakers) == len(nodes)
            self._rankings[kind] = everyone if whole else Ranking(speakers, self._cache_map)
            self._memos[kind] = shared if whole else Memo(self._models)
        self._generation = self._cache_map.generation

    def of(self, model: str, kind: ProtocolKind) -> Shortlist:
        """The model's shortlist among the nodes that speak that kind."""
        if self._generation != self._cache_map.generation:
            self._generation = self._cache_map.generation
            for memo in self._memos.values():
                memo.clear()
        memo = self._memos[kind]
        known = memo.get(model)
        if known is None or known.row is not self._cache_map.row(model):
            known = self._rankings[kind].shortlist(model)
            memo.put(model, known)
        return known

    def afresh(self, model: str, kind: ProtocolKind) -> Shortlist:
        """The same, worked out anew: nothing is remembered, and nothing forgotten for it."""
        return self._rankings[kind].shortlist(model)

    def order(self, model: str) -> tuple[NodeState, ...]:
        """All nodes in the model's rendezvous order, whatever they hold and speak."""
        return self._everyone.order(model)


class Ranking:
    """Works out orders and shortlists for one population of nodes. Remembers nothing."""

    def __init__(self, nodes: Sequence[NodeState], cache_map: CacheMap) -> None:
        by_id = {node.node.id: node for node in nodes}
        self._has_far = any(node.distance is Distance.FAR for node in nodes)
        self._rendezvous = Rendezvous((node.node.id, node.node.weight) for node in nodes)
        self._nodes = tuple(by_id[node_id] for node_id in self._rendezvous.ids)
        self._cache_map = cache_map

    def order(self, model: str) -> tuple[NodeState, ...]:
        """All nodes in the model's rendezvous order, whatever they hold: far ones after all others, so that a model has
        its home, and its replicas, among the nodes of this zone.
        """
        order = map(self._nodes.__getitem__, self._rendezvous.order(model))
        return tuple(sorted(order, key=_is_far) if self._has_far else order)

    def shortlist(self, model: str) -> Shortlist:
        """The model's shortlist.

        A node that is taken at its declaration and does not declare the model is left out if others
        do: it would answer that there is no such model, which is worse than no answer, as it is untrue.
        """
        order = self.order(model)
        row: bytes | None = self._cache_map.row(model)
        leaving = self._cache_map.leaving
        if row is None and not leaving and not self._cache_map.has_declarations:
            return Shortlist(row, ((range(len(order)), order),))
        states = self._cache_map.holders(model)
        tiers: dict[Tier, list[int]] = {tier: [] for tier in Tier}
        without: list[int] = []
        for rank, node in enumerate(order):
            node_id = node.node.id
            state = states.get(node_id)
            if state is None and self._cache_map.is_declared(node_id):
                without.append(rank)
            elif node_id in leaving:
                tiers[Tier.HELD_BY_LEAVER if state is Residency.AVAILABLE else Tier.LEAVER].append(rank)
            else:
                tiers[_TIERS[state or Residency.ABSENT]].append(rank)
        chosen = [tier for tier in tiers.values() if tier] or [without]
        return Shortlist(row, tuple((tuple(ranks), tuple(order[rank] for rank in ranks)) for ranks in chosen))


def _is_far(node: NodeState) -> bool:
    return node.distance is Distance.FAR
