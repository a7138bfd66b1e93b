"""The router: which node gets a call for a model, and which ones Envoy tries after it.

The router keeps the nodes and whether they are alive, their loads, and over how many nodes a model is spread. The
candidates of a model come from `shortlist`, and who of them gets the call is the `choice`.
"""

import math
from collections.abc import Callable, Collection, Iterable

from mesh.errors import MeshError
from mesh.node import Node, ProtocolKind
from mesh.residency.cache_map import CacheMap
from mesh.residency.load_waits import LoadWaits
from mesh.residency.state import Residency
from mesh.routing.choice import choose, settle, sooner, why_none
from mesh.routing.demand import Demand
from mesh.routing.durations import LONGEST, Durations
from mesh.routing.load import Excess, InFlight, Loads
from mesh.routing.placement import RESIDENT, ExpectedWait, NodeStanding, NoNode, Placement
from mesh.routing.settings import RoutingSettings
from mesh.routing.shortlist import Distance, NodeState, Shortlist, Shortlists


class Router:
    """Chooses nodes. Pure: time comes in as `now`, in seconds of one monotonic clock.

    Candidates are compared by: what they hold of the model (available, loading, nothing, draining,
    failed; `Tier` has the order, also for nodes that are about to go), whether they are within their
    load bound, the group of ranks that they stand in, distance, step of load, rank. All of
    these but the bound are a node's own: none depends on who else lives, so when a node dies, only the
    calls that would have gone to it go elsewhere. The bound weighs less than residency: a busy node
    that holds the model still answers sooner than one that has to load it first.

    Nodes of other zones that are reached by the header (far ones) have the last ranks, whatever the model. They get a
    call where no other node holds its model, or lives, or is within its bound and the zone's room, or where the call's
    limit ends before a load near by would.

    `cache_map` (who holds what) and `load_waits` (how long loads take) are what others write and the router reads; only
    what the configuration declares of a node is written here, and a node that has left is forgotten.
    """

    def __init__(self, settings: RoutingSettings, cache_map: CacheMap, load_waits: LoadWaits) -> None:
        self.settings = settings
        self.demand = Demand(settings.demand_seconds, settings.memo_models)
        self.durations = Durations(settings.demand_seconds, settings.memo_models)
        self.cache_map = cache_map
        self._load_waits = load_waits
        self._loads = Loads(settings)
        self._nodes: dict[str, NodeState] = {}
        self._by_endpoint: dict[str, NodeState] = {}
        self._spread: dict[str, int] = {}
        self._shortlists = Shortlists(cache_map, settings.memo_models)
        self.generation = 0
        """Moves when nodes come, go or change, when one dies or lives again, and when a model is spread otherwise."""
        self.on_loss: Callable[[], None] = lambda: None
        """Is called when a node may not be asked any more, or not where it was."""
        self.update(())

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes known, alive or not."""
        return tuple(known.node for known in self._nodes.values())

    def at(self, endpoint: str) -> Node | None:
        """The node that takes calls at `ip:port`, alive or not."""
        known = self._by_endpoint.get(endpoint)
        return None if known is None else known.node

    def node(self, node_id: str) -> Node | None:
        """The node of that id, alive or not."""
        known = self._nodes.get(node_id)
        return None if known is None else known.node

    def update(self, nodes: Iterable[Node]) -> None:
        """These are the nodes from now on. A new one is alive; one that stays keeps its load and whether it is alive.

        Raises MeshError, and changes nothing, if two have the same id.
        """
        fresh: dict[str, Node] = {}
        for node in nodes:
            if node.id in fresh:
                raise MeshError(f"Two nodes have the id {node.id!r}.")
            fresh[node.id] = node
        for node_id in self._nodes.keys() - fresh.keys():
            self._nodes.pop(node_id).load.counted = False
            self.cache_map.forget(node_id)
        for node_id, node in fresh.items():
            known = self._nodes.get(node_id)
            if known is None:
                known = self._nodes[node_id] = NodeState(node)
                self.cache_map.declare(node_id, node.models)
            elif known.node.models != node.models:
                self.cache_map.declare(node_id, node.models)
            known.stands(node, self.settings.zone)
        self._by_endpoint = {each: known for known in self._nodes.values() for each in known.node.endpoints}
        self._loads.population(known.load for known in self._nodes.values())
        self._shortlists.population(tuple(self._nodes.values()))
        self.generation += 1
        self.on_loss()

    def set_alive(self, node_id: str, alive: bool) -> None:
        """A node was proven dead, or answers again. An unknown id has no effect: the node may just have left."""
        known = self._nodes.get(node_id)
        if known is not None and known.alive is not alive:
            known.alive = known.load.counted = alive
            self._loads.recount()
            self.generation += 1
            if not alive:
                self.on_loss()

    def is_alive(self, node_id: str) -> bool:
        """Whether the node is known and not proven dead."""
        known = self._nodes.get(node_id)
        return known is not None and known.alive

    def pick(
        self,
        model: str,
        now: float,
        protocol_kind: ProtocolKind,
        limit: float = math.inf,
        without: Collection[str] = (),
    ) -> Placement:
        """The nodes for a call that goes out now: as many as the model is spread over, and some more for retries.

        `limit` is how long its caller waits, in seconds; `without` are ids of nodes that have failed it. A far node
        stands alone: Envoy cannot try another one after it. Counts the call as load of the first, as an estimate that
        fades; `lease` makes it exact. Raises NoNode if no node that can serve it is alive.
        """
        chosen = self._best(model, now, protocol_kind, limit, without)
        self._loads.picked(chosen[0].load, self.durations.of(model, now))
        self.demand.called(model, now)
        return _placement(chosen)

    def would_pick(
        self,
        model: str,
        now: float,
        protocol_kind: ProtocolKind,
        limit: float = math.inf,
        without: Collection[str] = (),
    ) -> Placement:
        """What `pick` would say. Counts nothing, and nothing is remembered for it. Raises NoNode as `pick`."""
        return _placement(self._best(model, now, protocol_kind, limit, without, remember=False))

    def settle(self, model: str, key: bytes, protocol_kind: ProtocolKind, *, remember: bool = True) -> str:
        """The id of the node on which a session is to sit, by its key; see `choice.settle`. Counts nothing.

        Without `remember` the model's shortlist is worked out anew, and forgotten. Raises NoNode if no node that can
        serve it is alive.
        """
        shortlist = self.shortlist(model, protocol_kind, remember=remember)
        chosen = settle(shortlist, key, self.settings.replicas, lambda node: self._holds(node.id, model))
        if chosen is None:
            raise NoNode(why_none(self._nodes.values(), model, protocol_kind))
        return chosen.node.id

    def welcomes(self, node_id: str, model: str) -> bool:
        """Whether a session that begins anew had best stay on the node that it had."""
        if not self.is_alive(node_id) or self.cache_map.is_leaving(node_id):
            return False
        state = self.cache_map.state(node_id, model)
        return not self.cache_map.is_live(node_id) or state in (Residency.AVAILABLE, Residency.LOADING)

    def pick_node(self, node_id: str, model: str, now: float, protocol_kind: ProtocolKind) -> Placement:
        """That node and no other, for a call that goes out now; counted as in `pick`. Raises NoNode if it cannot be."""
        known = self._only(node_id, protocol_kind)
        self._loads.tick(now)
        self._loads.picked(known.load, self.durations.of(model, now))
        self.demand.called(model, now)
        return Placement((known.node,))

    def would_pick_node(self, node_id: str, protocol_kind: ProtocolKind) -> Placement:
        """What `pick_node` would say. Counts nothing. Raises NoNode as `pick_node`."""
        return Placement((self._only(node_id, protocol_kind).node,))

    def _only(self, node_id: str, protocol_kind: ProtocolKind) -> NodeState:
        known = self._nodes.get(node_id)
        if known is None or not known.alive:
            raise NoNode("The model server that the call belongs to is gone.")
        if known.node.endpoint(protocol_kind) is None:
            raise NoNode(f"The model server that the call belongs to does not speak {protocol_kind}.")
        return known

    def call_seconds(self, model: str, now: float) -> float:
        """How long a call of the model takes of late; where that is not known, how long any is taken to."""
        seconds = self.durations.of(model, now)
        return self.settings.call_seconds if seconds is None else seconds

    def known_calls(self, endpoint: str, calls: int, seconds: float, now: float) -> None:
        """So many calls, of that mean duration, have ended on the node there (`ip:port`), of which no pick was counted.

        Of no effect where no such node is known: it may just have left.
        """
        known = self._by_endpoint.get(endpoint)
        if known is not None:
            self._loads.tick(now)
            self._loads.ended(known.load, calls, min(seconds, LONGEST))

    def shortlist(self, model: str, protocol_kind: ProtocolKind, *, remember: bool = True) -> Shortlist:
        """The candidates of the model, another object once another list. `remember` as in `settle`."""
        return (self._shortlists.of if remember else self._shortlists.afresh)(model, protocol_kind)

    def spread_of(self, model: str) -> int:
        """Over how many nodes calls for the model are spread."""
        return self._spread.get(model, self.settings.replicas)

    def set_spread(self, model: str, spread: int) -> None:
        """Calls for the model are spread over so many nodes from now on, at least one."""
        spread = max(1, spread)
        if spread != self.spread_of(model):
            self.generation += 1
        if spread == self.settings.replicas:
            self._spread.pop(model, None)
        else:
            self._spread[model] = spread

    @property
    def widened_models(self) -> tuple[str, ...]:
        """The models whose calls are spread otherwise than over `replicas` nodes."""
        return tuple(self._spread)

    def order(self, model: str) -> tuple[str, ...]:
        """The ids of all nodes in the model's rendezvous order, dead ones included, whatever they hold."""
        return tuple([each.node.id for each in self._shortlists.order(model)])

    def expected_wait(
        self,
        model: str,
        now: float,
        protocol_kind: ProtocolKind,
        limit: float = math.inf,
        *,
        remember: bool = True,
    ) -> ExpectedWait:
        """Whether a call that went out now would wait for a load, on the node that it would go to. Counts nothing.

        A node that reports nothing is taken to hold the model, as it is for picking. `remember` as in `settle`.
        """
        if not self.cache_map.is_any_live:
            return RESIDENT
        chosen = self._chosen(model, now, protocol_kind, limit, (), most=1, remember=remember)
        return self.wait_on(chosen[0].node.id if chosen else "", model, now)

    def wait_on(self, node_id: str, model: str, now: float) -> ExpectedWait:
        """The same of a call that goes to that node."""
        if not self.cache_map.is_live(node_id) or self.cache_map.state(node_id, model) is Residency.AVAILABLE:
            return RESIDENT
        return ExpectedWait(cold=True, load_seconds=self._load_waits.seconds(node_id, model, now))

    def lease(self, placement: Placement) -> InFlight:
        """Counts the call that was just picked exactly, until the lease is released: for calls whose end is seen.

        To be taken right after the pick. A node may leave, and come again, while calls to it are in flight.
        """
        return InFlight(self._loads, self._nodes[placement.nodes[0].id].load)

    def placements(self, model: str, protocol_kind: ProtocolKind = "grpc") -> tuple[NodeStanding, ...]:
        """Every candidate of the model, dead ones included, in the order of residency and rank. Changes nothing.

        Loads are those of the last `tick`.
        """
        return tuple(
            NodeStanding(
                each.node,
                rank,
                each.alive,
                self.cache_map.state(each.node.id, model),
                self._loads.of(each.load),
                self._loads.pressure(each.load)[0] is not Excess.NOTHING,
                each.distance is not Distance.NEAR,
            )
            for rank, each in self.shortlist(model, protocol_kind, remember=False)
        )

    def tick(self, now: float) -> None:
        """Loads are those of `now` from here on, as they are with each pick."""
        self._loads.tick(now)

    def load(self, node_id: str) -> float:
        """Calls in flight on that node, known and estimated, as of the last pick. 0 for an unknown node."""
        known = self._nodes.get(node_id)
        return 0.0 if known is None else self._loads.of(known.load)

    def _best(
        self,
        model: str,
        now: float,
        protocol_kind: ProtocolKind,
        limit: float,
        without: Collection[str],
        *,
        remember: bool = True,
    ) -> list[NodeState]:
        """As `_chosen`, at least one. Raises NoNode."""
        chosen = self._chosen(model, now, protocol_kind, limit, without, remember=remember)
        if not chosen:
            raise NoNode(why_none(self._nodes.values(), model, protocol_kind))
        return chosen

    def _chosen(
        self,
        model: str,
        now: float,
        protocol_kind: ProtocolKind,
        limit: float,
        without: Collection[str],
        most: int | None = None,
        *,
        remember: bool = True,
    ) -> list[NodeState]:
        """The best living nodes, `most` of them or as many as a placement has; the first is the one to ask."""
        spread = self._spread.get(model, self.settings.replicas)
        shortlist = self.shortlist(model, protocol_kind, remember=remember)
        self._loads.tick(now)
        want = spread + self.settings.retries if most is None else most
        chosen = choose(shortlist, spread, want + len(without), self._loads.pressure)
        if without:
            chosen = [each for each in chosen if each.node.id not in without]
        if chosen and limit < math.inf and self.cache_map.is_any_live:
            first = sooner(shortlist, chosen[0], lambda node: self._is_late(node.id, model, now, limit))
            if first is not chosen[0] and first.node.id not in without:
                return [first]
        return chosen

    def _is_late(self, node_id: str, model: str, now: float, limit: float) -> bool:
        seconds = self.wait_on(node_id, model, now).load_seconds
        return seconds is not None and seconds > limit

    def _holds(self, node_id: str, model: str) -> bool:
        return self.cache_map.state(node_id, model) is Residency.AVAILABLE


def _placement(chosen: list[NodeState]) -> Placement:
    """Of these the first is asked, the others after it: but after a far one Envoy cannot try another."""
    if chosen[0].distance is Distance.FAR:
        return Placement((chosen[0].node,))
    return Placement(tuple([each.node for each in chosen if each.distance is not Distance.FAR]))
