"""The shortlists of one population: for each kind of protocol, and remembered while what they came from holds."""

from mesh.node import ProtocolKind
from mesh.routing.cache_map import CacheMap
from mesh.routing.memo import Memo
from mesh.routing.shortlist import Planner, Seat, Shortlist

_KINDS: tuple[ProtocolKind, ...] = ("grpc", "rest")


class Shortlists:
    """Those of `models` models at least are remembered. `plan` comes before any question."""

    def __init__(self, cache_map: CacheMap, models: int) -> None:
        self._cache_map = cache_map
        self._models = models
        self._planners: dict[ProtocolKind, Planner] = {}
        self._memos: dict[ProtocolKind, Memo[Shortlist]] = {}
        self._generation = -1

    def plan(self, seats: tuple[Seat, ...]) -> None:
        """Plan anew for the population. Where all nodes speak both kinds, both share planner and memo."""
        everyone = self._everyone = Planner(seats, self._cache_map)
        shared = Memo[Shortlist](self._models)
        for kind in _KINDS:
            speakers = tuple(seat for seat in seats if seat.node.endpoint(kind) is not None)
            whole = len(speakers) == len(seats)
            self._planners[kind] = everyone if whole else Planner(speakers, self._cache_map)
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

    def order(self, model: str) -> tuple[Seat, ...]:
        """All seats in the model's rendezvous order, whatever they hold and speak."""
        return self._everyone.order(model)
