"""The candidates of one model, best first as far as calls and loads do not matter: worked out once, then remembered."""

from collections.abc import Iterator, Sequence
from enum import IntEnum

from mesh.bounded import Memo
from mesh.node import Node, ProtocolKind
from mesh.residency.cache_map import CacheMap
from mesh.residency.state import Residency
from mesh.routing.load import NodeLoad
from mesh.routing.rendezvous import Rendezvous


class Tier(IntEnum):
    """What a node can do for a model, best first.

    A model that is being unloaded, or that could not be loaded, is better asked for elsewhere. A node that goes is
    asked for what nobody else holds yet, and for nothing that it would have to load.
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


class NodeState:
    """A node's place in the router: what it is, whether it lives, and how busy it is."""

    __slots__ = ("alive", "load", "node", "remote")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.alive = True
        self.remote = False
        self.load = NodeLoad(node.weight)


class Shortlist:
    """The nodes for one model in tiers of residency, each tier in rendezvous order.

    `tiers` are pairs (places, seats) of equal length, where a place is the seat's position in the
    rendezvous order over all nodes, dead ones included: it depends on nothing but the model and the
    population, so nobody's death changes the place of another.
    """

    __slots__ = ("row", "tiers")

    def __init__(self, row: bytes | None, tiers: tuple[tuple[Sequence[int], tuple[NodeState, ...]], ...]) -> None:
        self.row = row
        self.tiers = tiers

    def __iter__(self) -> Iterator[tuple[int, NodeState]]:
        for places, seats in self.tiers:
            yield from zip(places, seats, strict=True)


class Ranking:
    """Works out shortlists for one population of nodes."""

    def __init__(self, seats: Sequence[NodeState], cache_map: CacheMap) -> None:
        by_id = {seat.node.id: seat for seat in seats}
        self._rendezvous = Rendezvous((seat.node.id, seat.node.weight) for seat in seats)
        self._seats = tuple(by_id[node_id] for node_id in self._rendezvous.ids)
        self._cache_map = cache_map

    def order(self, model: str) -> tuple[NodeState, ...]:
        """All nodes in the model's rendezvous order, whatever they hold."""
        return tuple(map(self._seats.__getitem__, self._rendezvous.order(model)))

    def shortlist(self, model: str) -> Shortlist:
        """The model's shortlist.

        A node that is taken at its declaration and does not declare the model is left out if others
        do: it would answer that there is no such model, which is worse than no answer, as it is untrue.
        """
        order = self.order(model)
        row = self._cache_map.row(model)
        leaving = self._cache_map.leaving
        if row is None and not leaving and not self._cache_map.has_declarations:
            return Shortlist(row, ((range(len(order)), order),))
        states = self._cache_map.holders(model)
        tiers: dict[Tier, list[int]] = {tier: [] for tier in Tier}
        without: list[int] = []
        for place, seat in enumerate(order):
            state = states.get(seat.node.id)
            if state is None and self._cache_map.is_declared(seat.node.id):
                without.append(place)
            elif seat.node.id in leaving:
                tiers[Tier.HELD_BY_LEAVER if state is Residency.AVAILABLE else Tier.LEAVER].append(place)
            else:
                tiers[_TIERS[state or Residency.ABSENT]].append(place)
        chosen = [tier for tier in tiers.values() if tier] or [without]
        return Shortlist(row, tuple((tuple(places), tuple(order[place] for place in places)) for places in chosen))


_KINDS: tuple[ProtocolKind, ...] = ("grpc", "rest")


class Shortlists:
    """Those of `models` models at least are remembered. `plan` comes before any question."""

    def __init__(self, cache_map: CacheMap, models: int) -> None:
        self._cache_map = cache_map
        self._models = models
        self._planners: dict[ProtocolKind, Ranking] = {}
        self._memos: dict[ProtocolKind, Memo[Shortlist]] = {}
        self._generation = -1

    def plan(self, seats: tuple[NodeState, ...]) -> None:
        """Plan anew for the population. Where all nodes speak both kinds, both share planner and memo."""
        everyone = self._everyone = Ranking(seats, self._cache_map)
        shared = Memo[Shortlist](self._models)
        for kind in _KINDS:
            speakers = tuple(seat for seat in seats if seat.node.endpoint(kind) is not None)
            whole = len(speakers) == len(seats)
            self._planners[kind] = everyone if whole else Ranking(speakers, self._cache_map)
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
            known = self._planners[kind].shortlist(model)
            memo.put(model, known)
        return known

    def afresh(self, model: str, kind: ProtocolKind) -> Shortlist:
        """The same, worked out anew: nothing is remembered, and nothing forgotten for it."""
        return self._planners[kind].shortlist(model)

    def order(self, model: str) -> tuple[NodeState, ...]:
        """All seats in the model's rendezvous order, whatever they hold and speak."""
        return self._everyone.order(model)
