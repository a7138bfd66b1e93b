"""The warm-up plan: which model a node should load before calls are sent to it.

Three reasons, in this order. A node that leaves: what it holds is loaded by the next node of each model's order. A
node that joins: it loads the models in demand whose home it is (the first of their order), as far as it has room. A
model with more load than its copies carry: another node loads it, and once it has, calls go there too.

Calls follow by themselves, as the router prefers nodes that hold the model. Nothing here is needed for an answer: a
node loads what it lacks when a call comes. So the plan is slow on purpose, and gives up easily.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import Field

from mesh.routing.cache_map import Residency
from mesh.routing.router import Router
from mesh.settings import Settings

CHUNK = 32
"""Models that are looked at in one step: 1 to 2 ms with 100 nodes, as long as a step may hold up calls."""
_SHRINK = 0.5
"""A replica goes when the load fills the others to no more than this share: growth and shrinkage never alternate."""


class WarmSettings(Settings):
    """How fast models are loaded ahead of calls."""

    enabled: bool = Field(default=True, description="Whether nodes are asked to load models ahead of calls.")
    per_second: float = Field(default=10.0, gt=0.0, le=1000.0, description="Loads asked for a second, all together.")
    per_node: int = Field(default=4, ge=1, le=64, description="Loads asked of one node at once.")
    again: float = Field(
        default=30.0, ge=0.1, le=3600.0, description="Seconds until a refused load is asked for again."
    )
    replica_load: float = Field(
        default=16.0,
        gt=0.0,
        le=1e6,
        description="Calls in flight that one copy of a model carries before there is another.",
    )


@dataclass(frozen=True, slots=True)
class WarmUp:
    """That node is to load that model; with `into_free_room` only if no other model has to go for it."""

    node_id: str
    model: str
    into_free_room: bool


class WarmPlan:
    """Decides; `ended` is told of every end. Times are seconds of one monotonic clock.

    `free_models` says for how many more models a node has room, as it reported (0 for a node that is not heard).
    """

    def __init__(self, settings: WarmSettings, router: Router, free_models: Callable[[str], float]) -> None:
        self._settings = settings
        self._router = router
        self._map = router.cache_map
        self._free_models = free_models
        self._under_way: dict[str, set[str]] = {}
        self._refused: dict[tuple[str, str], float] = {}
        self._moves: dict[str, list[str]] = {}
        self._round: Iterator[str] = iter(())
        self._known: frozenset[str] = frozenset()
        """Nodes that can be asked at all, as of this step: alive, heard, and here to stay."""
        self._joining: dict[str, bool] = {}
        """Nodes that have come, and whether this round over the models has found something for them."""
        self._tokens = 1.0
        self._filled_at = -math.inf

    def next(self, now: float) -> list[WarmUp]:
        """What is to be asked for now. To be called some times a second."""
        self._fill(now)
        self._look_for_joiners()
        self._refused = {pair: until for pair, until in self._refused.items() if until > now}
        wanted: list[WarmUp] = []
        for warm_up in self._candidates(now):
            if self._tokens < 1.0:
                break
            at_node = self._under_way.setdefault(warm_up.node_id, set())
            if warm_up.model not in at_node and len(at_node) < self._settings.per_node:
                at_node.add(warm_up.model)
                self._tokens -= 1.0
                wanted.append(warm_up)
        return wanted

    def ended(self, warm_up: WarmUp, loaded: bool, now: float, again: float = math.inf) -> None:
        """The node has loaded the model, or cannot: then another node is asked, or the same one later.

        `again` is after how many seconds that may be, where the node says so, and it is sooner than the settings'.
        """
        at_node = self._under_way.get(warm_up.node_id, set())
        at_node.discard(warm_up.model)
        if not at_node:
            self._under_way.pop(warm_up.node_id, None)
        if not loaded:
            self._refused[warm_up.node_id, warm_up.model] = now + min(again, self._settings.again)

    def needs(self, node_id: str) -> bool:
        """Whether a leaving node still holds what is to be loaded elsewhere first."""
        return bool(self._moves.get(node_id, True))

    def _fill(self, now: float) -> None:
        rate = self._settings.per_second
        gained = max(now - self._filled_at, 0.0) * rate
        self._tokens = min(self._tokens + gained, max(rate, 1.0))
        self._filled_at = now

    def _look_for_joiners(self) -> None:
        leaving = self._map.leaving
        heard = (node.id for node in self._router.nodes if self._map.is_live(node.id) and node.id not in leaving)
        nodes = frozenset(node_id for node_id in heard if self._router.is_alive(node_id))
        self._joining = {node_id: found for node_id, found in self._joining.items() if node_id in nodes}
        self._joining |= dict.fromkeys(nodes - self._known, True)  # True: the round under way may have passed it by
        self._known = nodes

    def _candidates(self, now: float) -> Iterator[WarmUp]:
        yield from self._moved(now)
        yield from self._spread(now)

    def _moved(self, now: float) -> Iterator[WarmUp]:
        """What leaving nodes hold, the models most in demand first."""
        leaving = self._map.leaving
        for node_id in self._moves.keys() - leaving:
            del self._moves[node_id]
        for node_id in sorted(leaving):
            if node_id not in self._moves:
                self._moves[node_id] = self._held(node_id, now)
            staying = []
            for number, model in enumerate(self._moves[node_id]):
                if number >= CHUNK:
                    staying += self._moves[node_id][number:]
                    break
                if self._is_held(model):
                    continue
                eligible = self._eligible(model)
                if any(self._comes(other, model) for other in eligible):
                    staying.append(model)
                    continue
                warm_up = self._next_holder(model, eligible, self._router.demand.rate(model, now) > 0.0)
                if warm_up is not None:
                    staying.append(model)
                    yield warm_up
            self._moves[node_id] = staying

    def _held(self, node_id: str, now: float) -> list[str]:
        states = (Residency.AVAILABLE, Residency.LOADING)
        held = [model for model, state in self._map.models(node_id).items() if state in states]
        return sorted(held, key=lambda model: -self._router.demand.rate(model, now))

    def _next_holder(self, model: str, eligible: list[str], called: bool) -> WarmUp | None:
        """Nobody calls it: then no other model has to go for it."""
        for node_id in eligible:
            if not self._may_ask(node_id, model):
                continue
            if called:
                return WarmUp(node_id, model, into_free_room=False)
            if self._has_room(node_id):
                return WarmUp(node_id, model, into_free_room=True)
        return None

    def _spread(self, now: float) -> Iterator[WarmUp]:
        """Models in demand, some at each step: home again, and to as many nodes as their load asks for."""
        for _ in range(CHUNK):
            model = next(self._round, None)
            if model is None:
                self._begin_round()
                return
            rate = self._router.demand.rate(model, now)
            copies = self._widen(model, rate * self._router.settings.call_seconds, len(self._known))
            if rate == 0.0 or (copies == 1 and not self._joining) or not self._is_held(model):
                continue
            eligible = self._eligible(model)
            home = eligible[0]
            if copies > 1:  # worth an eviction
                for node_id in eligible[:copies]:
                    if self._may_ask(node_id, model):
                        yield WarmUp(node_id, model, into_free_room=False)
            elif home in self._joining and self._may_ask(home, model) and self._has_room(home):
                self._joining[home] = True
                yield WarmUp(home, model, into_free_room=True)

    def _begin_round(self) -> None:
        """A node has joined when a whole round has found nothing for it, and nothing is on its way there."""
        joining = self._joining.items()
        self._joining = {node_id: False for node_id, found in joining if found or node_id in self._under_way}
        self._round = iter([*dict.fromkeys([*self._router.demand.models(), *self._router.widened])])

    def _widen(self, model: str, load: float, most: int) -> int:
        """Spread the model as its load (calls in flight) asks for, over at most `most` nodes. Returns the copies."""
        settings, each = self._router.settings, self._settings.replica_load
        width = self._router.width(model)
        while width < min(settings.max_replicas, most) and load > each * width:
            width += 1
        while width > settings.replicas and (width > most or load < _SHRINK * each * (width - 1)):
            width -= 1
        self._router.widen(model, width)
        return max(1, min(math.ceil(load / each), width))

    def _eligible(self, model: str) -> list[str]:
        """Nodes that can be asked, in the model's order."""
        return [node_id for node_id in self._router.order(model) if node_id in self._known]

    def _is_held(self, model: str) -> bool:
        """Whether a node that stays holds the model."""
        holders = self._map.holders(model).items()
        return any(state is Residency.AVAILABLE and node_id in self._known for node_id, state in holders)

    def _comes(self, node_id: str, model: str) -> bool:
        loading = self._map.state(node_id, model) is Residency.LOADING
        return loading or model in self._under_way.get(node_id, ())

    def _may_ask(self, node_id: str, model: str) -> bool:
        absent = self._map.state(node_id, model) is Residency.ABSENT
        return absent and not self._comes(node_id, model) and (node_id, model) not in self._refused

    def _has_room(self, node_id: str) -> bool:
        return self._free_models(node_id) > len(self._under_way.get(node_id, ()))
