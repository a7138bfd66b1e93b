"""The router: which node gets a call for a model, and which ones Envoy tries after it.

Here is what it knows: the nodes and whether they live, their loads, and over how many nodes a model is spread. The
candidates of a model come from `shortlists`, and who of them gets the call is the `choice`.
"""

from collections.abc import Iterable

from mesh.errors import MeshError
from mesh.node import Node, ProtocolKind
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.choice import choose, why_none
from mesh.routing.demand import Demand
from mesh.routing.load import InFlight, Loads
from mesh.routing.placement import RESIDENT, ExpectedWait, NodeStanding, NoNode, Placement
from mesh.routing.settings import RoutingSettings
from mesh.routing.shortlist import NodeState, Shortlists


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
        self._seats: dict[str, NodeState] = {}
        self._shortlists = Shortlists(self.cache_map, settings.memo_models)
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
            self._seats.pop(node_id).load.counted = False
            self.cache_map.forget(node_id)
        for node_id, node in fresh.items():
            known = self._seats.get(node_id)
            if known is None:
                known = self._seats[node_id] = NodeState(node)
                self.cache_map.declare(node_id, node.models)
            elif known.node.models != node.models:
                self.cache_map.declare(node_id, node.models)
            known.node = node
            known.load.weight = node.weight
            known.remote = bool(self.settings.zone) and node.zone != self.settings.zone
        self._loads.population(seat.load for seat in self._seats.values())
        self._shortlists.plan(tuple(self._seats.values()))

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

        Counts the call as load of the first, as an estimate that fades; `lease` makes it exact. Raises NoNode if no
        node that can serve it is alive.
        """
        width = self.width(model) if replicas is None else max(1, replicas)
        shortlist = self._shortlists.of(model, protocol_kind)
        self._loads.tick(now)
        seats = choose(shortlist, width, width + self.settings.retries, self._loads.rank)
        if not seats:
            raise NoNode(why_none(self._seats.values(), model, protocol_kind))
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
        return tuple([seat.node.id for seat in self._shortlists.order(model)])

    def expected_wait(self, model: str, now: float, protocol_kind: ProtocolKind) -> ExpectedWait:
        """Whether a call that went out now would wait for a load, on the node that it would go to. Counts nothing.

        Of a node that reports nothing nobody knows; it is taken to hold the model, as it is for picking.
        """
        self._loads.tick(now)
        seats = choose(self._shortlists.of(model, protocol_kind), self.width(model), 1, self._loads.rank)
        return self.wait_on(seats[0].node.id if seats else "", model, now)

    def wait_on(self, node_id: str, model: str, now: float) -> ExpectedWait:
        """The same of a call that goes to that node."""
        if not self.cache_map.is_live(node_id) or self.cache_map.state(node_id, model) is Residency.AVAILABLE:
            return RESIDENT
        return ExpectedWait(cold=True, load_seconds=self.load_waits.seconds(node_id, model, now))

    def lease(self, placement: Placement) -> InFlight:
        """Counts the call that was just picked exactly, until the lease is released: for calls whose end is seen.

        To be taken right after the pick. A node may leave, and come again, while calls to it are in flight.
        """
        return InFlight(self._loads, self._seats[placement.nodes[0].id].load)

    def placements(self, model: str, protocol_kind: ProtocolKind = "grpc") -> tuple[NodeStanding, ...]:
        """Every candidate of the model, dead ones included, in the order of residency and place. Changes nothing."""
        return tuple(
            NodeStanding(
                seat.node, place, seat.alive, self.cache_map.state(seat.node.id, model), self.load(seat.node.id)
            )
            for place, seat in self._shortlists.afresh(model, protocol_kind)
        )

    def load(self, node_id: str) -> float:
        """Calls in flight on that node, known and estimated, as of the last pick. 0 for an unknown node."""
        seat = self._seats.get(node_id)
        return 0.0 if seat is None else self._loads.of(seat.load)
