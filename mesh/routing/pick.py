"""The router: which node gets a call for a model, and which ones Envoy tries after it."""

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.errors import MeshError
from mesh.node import Node, ProtocolKind
from mesh.routing.cache_map import CacheMap, Residency
from mesh.routing.demand import Demand
from mesh.routing.load import Loads
from mesh.routing.load_waits import LoadWaits
from mesh.routing.memo import Memo
from mesh.routing.prospect import RESIDENT, Prospect
from mesh.routing.settings import RoutingSettings
from mesh.routing.shortlist import Planner, Seat, Shortlist

_KINDS: tuple[ProtocolKind, ...] = ("grpc", "rest")


class NoNode(MeshError):
    """No node can be given the call. The message is one sentence fit for a client."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The nodes for one call, never empty: the first gets the call, the later ones serve Envoy's retries in order."""

    nodes: tuple[Node, ...]

    def endpoints(self, kind: ProtocolKind) -> str:
        """The nodes as Envoy's override_host policy reads them: `ip:port,ip:port`."""
        return ",".join(endpoint for node in self.nodes if (endpoint := node.endpoint(kind)) is not None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node's standing for one model, for people to read.

    `place` is its position in the rendezvous order (0 is the model's home); `load` is in calls in flight.
    """

    node: Node
    place: int
    alive: bool
    state: Residency
    load: float


class Router:
    """Chooses nodes. Pure: time comes in as `now`, in seconds of one monotonic clock.

    Candidates are compared by: what they hold of the model (available, loading, nothing, draining,
    failed; `Tier` has the order, also for nodes that are about to go), whether they are within their
    load bound, the group of `replicas` places that they stand in, zone, step of load, place. All of
    these but the bound are a node's own: none depends on who else lives, so when a node dies, only the
    calls that would have gone to it go elsewhere. The bound weighs less than residency: a busy node
    that holds the model still answers sooner than one that has to load it first.
    """

    def __init__(self, settings: RoutingSettings, cache_map: CacheMap | None = None) -> None:
        self.settings = settings
        self.cache_map = CacheMap() if cache_map is None else cache_map
        self.load_waits = LoadWaits()
        self.demand = Demand(settings.demand_seconds, settings.memo_models)
        self._loads = Loads(settings)
        self._widths: dict[str, int] = {}
        self._seats: dict[str, Seat] = {}
        self._planners: dict[ProtocolKind, Planner] = {}
        self._memos: dict[ProtocolKind, Memo[Shortlist]] = {}
        self._generation = -1
        self.update(())

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes known, alive or not."""
        return tuple(seat.node for seat in self._seats.values())

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on. A new one is alive; one that stays keeps its load and whether it is alive.

        Raises MeshError, and changes nothing, if two have the same id.
        """
        fresh: dict[str, Node] = {}
        for node in nodes:
            if node.id in fresh:
                raise MeshError(f"Two nodes have the id {node.id!r}.")
            fresh[node.id] = node
        for node_id in self._seats.keys() - fresh.keys():
            del self._seats[node_id]
            self.cache_map.forget(node_id)
        for node_id, node in fresh.items():
            known = self._seats.get(node_id)
            if known is None:
                known = self._seats[node_id] = Seat(node)
                self.cache_map.declare(node_id, node.models)
            elif known.node.models != node.models:
                self.cache_map.declare(node_id, node.models)
            known.node = node
            known.load.weight = node.weight
            known.remote = bool(self.settings.zone) and node.zone != self.settings.zone
        self._loads.population(seat.load for seat in self._seats.values())
        self._plan()

    def set_alive(self, node_id: str, alive: bool) -> None:
        """A node was proven dead, or answers again. An unknown id has no effect: the node may just have left."""
        seat = self._seats.get(node_id)
        if seat is not None and seat.alive is not alive:
            seat.alive = seat.load.counted = alive
            self._loads.recount()

    def is_alive(self, node_id: str) -> bool:
        """Whether the node is known and not proven dead."""
        seat = self._seats.get(node_id)
        return seat is not None and seat.alive

    def pick(self, model: str, now: float, protocol_kind: ProtocolKind, replicas: int | None = None) -> Placement:
        """The nodes for a call that goes out now: `replicas` of them, and some more for retries.

        Counts the call as load of the first. Raises NoNode if no node that can serve it is alive.
        """
        width = self.width(model) if replicas is None else max(1, replicas)
        shortlist = self._shortlist(model, protocol_kind)
        self._loads.tick(now)
        seats = self._choose(shortlist, width, width + self.settings.retries)
        if not seats:
            raise NoNode(self._why_none(model, protocol_kind))
        self._loads.picked(seats[0].load)
        self.demand.called(model, now)
        return Placement(tuple([seat.node for seat in seats]))

    def width(self, model: str) -> int:
        """Over how many nodes calls for the model are spread."""
        return self._widths.get(model, self.settings.replicas)

    def widen(self, model: str, width: int) -> None:
        """Calls for the model are spread over so many nodes from now on."""
        if width == self.settings.replicas:
            self._widths.pop(model, None)
        else:
            self._widths[model] = width

    @property
    def widened(self) -> tuple[str, ...]:
        """The models that are spread otherwise than over `replicas` nodes."""
        return tuple(self._widths)

    def order(self, model: str) -> tuple[str, ...]:
        """The ids of all nodes in the model's rendezvous order, dead ones included, whatever they hold."""
        return tuple([seat.node.id for seat in self._everyone.order(model)])

    def prospect(self, model: str, now: float, protocol_kind: ProtocolKind) -> Prospect:
        """Whether a call that went out now would wait for a load, on the node that it would go to. Counts nothing.

        Of a node that reports nothing nobody knows; it is taken to hold the model, as it is for picking.
        """
        self._loads.tick(now)
        seats = self._choose(self._shortlist(model, protocol_kind), self.width(model), 1)
        node_id = seats[0].node.id if seats else ""
        if not self.cache_map.is_live(node_id) or self.cache_map.state(node_id, model) is Residency.AVAILABLE:
            return RESIDENT
        return Prospect(cold=True, load_seconds=self.load_waits.seconds(node_id, model, now))

    def started(self, node_id: str) -> None:
        """A call that was just picked for that node is on its way, and its end will be told by `finished`."""
        seat = self._seats.get(node_id)
        if seat is not None:
            self._loads.started(seat.load)

    def finished(self, node_id: str) -> None:
        """A started call has ended, however it ended. Has no effect for a node that has left meanwhile."""
        seat = self._seats.get(node_id)
        if seat is not None:
            self._loads.finished(seat.load)

    def placements(self, model: str, protocol_kind: ProtocolKind = "grpc") -> tuple[Candidate, ...]:
        """Every candidate of the model, dead ones included, in the order of residency and place. Changes nothing."""
        return tuple(
            Candidate(seat.node, place, seat.alive, self.cache_map.state(seat.node.id, model), self.load(seat.node.id))
            for place, seat in self._planners[protocol_kind].shortlist(model)
        )

    def load(self, node_id: str) -> float:
        """Calls in flight on that node, known and estimated, as of the last pick. 0 for an unknown node."""
        seat = self._seats.get(node_id)
        return 0.0 if seat is None else self._loads.of(seat.load)

    def _plan(self) -> None:
        """Plan anew for the population. Where all nodes speak both kinds, both share planner and memo."""
        everyone = self._everyone = Planner(tuple(self._seats.values()), self.cache_map)
        shared = Memo[Shortlist](self.settings.memo_models)
        for kind in _KINDS:
            speakers = tuple(seat for seat in self._seats.values() if seat.node.endpoint(kind) is not None)
            whole = len(speakers) == len(self._seats)
            self._planners[kind] = everyone if whole else Planner(speakers, self.cache_map)
            self._memos[kind] = shared if whole else Memo(self.settings.memo_models)
        self._generation = self.cache_map.generation

    def _shortlist(self, model: str, kind: ProtocolKind) -> Shortlist:
        if self._generation != self.cache_map.generation:
            self._generation = self.cache_map.generation
            for memo in self._memos.values():
                memo.clear()
        memo = self._memos[kind]
        known = memo.get(model)
        if known is None or known.row is not self.cache_map.row(model):
            known = self._planners[kind].shortlist(model)
            memo.put(model, known)
        return known

    def _choose(self, shortlist: Shortlist, width: int, want: int) -> list[Seat]:
        """The best `want` living seats. Looks no further than the group in which enough are found within bounds."""
        rank = self._loads.rank
        chosen: list[Seat] = []
        for places, seats in shortlist.tiers:
            missing, last = want - len(chosen), -1
            within: list[tuple[int, bool, int, int, Seat]] = []
            beyond: list[tuple[int, bool, int, int, Seat]] = []
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

    def _why_none(self, model: str, kind: ProtocolKind) -> str:
        if not self._seats:
            return "No model server is known."
        if not any(seat.alive for seat in self._seats.values()):
            return "No model server is alive."
        if not any(seat.alive and seat.node.endpoint(kind) for seat in self._seats.values()):
            return f"No model server that speaks {kind} is alive."
        return f"No model server that holds {model!r} is alive."
