"""A simulated call that is only routed, and a load that the warm-up plan asks for."""

from collections.abc import Sequence

from ext_proc.planning.fleet.cache_node import CacheNode
from ext_proc.planning.fleet.profile import Run
from ext_proc.planning.fleet.world import Target, World
from ext_proc.recording.calls import RecordedCall
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry
from mesh.node import Node
from mesh.warming.load_requests import WarmUp
from mesh.warming.plan import WarmPlan


def route(world: World, call: RecordedCall, counts: bool, now: float) -> None:
    """Sends the call to where the router would. It is counted as load as plain calls are, with no lease of its own."""
    target = world.target(call.model)
    nodes = world.router.pick(target.model, now, world.kind, call.limit).nodes
    if call.weight > 1:
        world.router.demand.called(target.model, now, call.weight - 1)
    node = world.nodes.get(nodes[0].id)
    entry = None if node is None else node.available(target.key)
    if counts:
        figures = world.figures
        figures.calls += call.weight
        if world.nodes:
            figures.told += call.weight
            if node is None or entry is not None:
                figures.hits += call.weight
    if node is None:
        _works(world, call, next(target.runs), counts, now)
    elif entry is None:
        _ColdCall(world, call, target, nodes, counts).ask(now)
    else:
        node.acquire(entry, now)
        _serve(world, call, target, node, entry, counts, now)


def _serve(
    world: World, call: RecordedCall, target: Target, node: CacheNode, entry: CacheEntry, counts: bool, now: float
) -> None:
    device = node.device
    if device is not None and device.takes(target.model):
        began = now

        def ended(answered: bool, now: float) -> None:
            _over((world, node, entry, now - began), now)
            if counts and answered and now - call.at <= call.limit:
                world.figures.answered += call.weight

        device.add(target.model, call, call.limit - (now - call.at), ended, now)
        return
    run = next(target.runs)
    _works(world, call, run, counts, now)
    world.events.at(now + run.seconds, _over, (world, node, entry, run.seconds))


def _over(what: tuple[World, CacheNode, CacheEntry, float], now: float) -> None:
    world, node, entry, seconds = what
    node.release(entry, now)
    world.took(entry.key.model, seconds, now)


def _works(world: World, call: RecordedCall, run: Run, counts: bool, now: float) -> None:
    """A node works on the call from now on."""
    if counts:
        world.figures.busy_seconds += run.seconds * call.weight
        if run.answered and now + run.seconds - call.at <= call.limit:
            world.figures.answered += call.weight


class _ColdCall:
    """One that waits for a load; where a node has no room Envoy asks the next one."""

    __slots__ = ("_call", "_counts", "_node", "_nodes", "_target", "_world")

    def __init__(self, world: World, call: RecordedCall, target: Target, nodes: Sequence[Node], counts: bool) -> None:
        self._world = world
        self._call = call
        self._target = target
        self._nodes = list(nodes)
        self._counts = counts
        self._node: CacheNode | None = None

    def ask(self, now: float) -> None:
        """The next node that there is; without one the call has failed."""
        world, target = self._world, self._target
        while self._nodes:
            node = self._node = world.nodes.get(self._nodes.pop(0).id)
            if node is None:
                _works(world, self._call, next(target.runs), self._counts, now)
                return
            entry = node.available(target.key)
            if entry is None:
                node.ask(target.key, self, now)
                return
            node.acquire(entry, now)
            self.granted(entry, now)
            return

    def granted(self, entry: CacheEntry, now: float) -> None:
        """See Waiter."""
        call, node = self._call, self._node
        assert node is not None
        if self._counts and self._world.figures.cold_seconds is not None:
            self._world.figures.cold_seconds += (now - call.at) * call.weight
        _serve(self._world, call, self._target, node, entry, self._counts, now)

    def refused(self, now: float) -> None:
        """See Waiter."""
        self.ask(now)


class Warming:
    """A load ahead of calls."""

    __slots__ = ("_plan", "_warm_up", "_world")

    def __init__(self, world: World, plan: WarmPlan, warm_up: WarmUp) -> None:
        self._world = world
        self._plan = plan
        self._warm_up = warm_up

    def begin(self, now: float) -> None:
        """Asks the node."""
        node, key = self._world.nodes[self._warm_up.node_id], Key(self._warm_up.model, 0)
        if node.available(key) is not None:
            self._plan.ended(self._warm_up, True, now)
        elif self._warm_up.into_free_room and node.free < 1:
            self._plan.ended(self._warm_up, False, now)
        else:
            node.ask(key, self, now)

    def granted(self, entry: CacheEntry, now: float) -> None:
        """See Waiter."""
        self._world.nodes[self._warm_up.node_id].release(entry, now)
        self._plan.ended(self._warm_up, True, now)

    def refused(self, now: float) -> None:
        """See Waiter."""
        self._plan.ended(self._warm_up, False, now)
