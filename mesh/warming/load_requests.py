"""Who may be asked to load which model: what nodes have been asked for, what they have refused, and what they hold."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from mesh.residency.cache_map import CacheMap
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.warming.settings import WarmSettings

CHUNK = 32
"""Models that are looked at in one step: 1 to 2 ms with 100 nodes, as long as a step may hold up calls."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """That node is to load that model; with `into_free_room` only if no other model has to go for it."""

    node_id: str
    model: str
    into_free_room: bool


class LoadRequests:
    """What is under way. Times are seconds of one monotonic clock.

    `free_models` says for how many more models a node has room, as it reported (0 for a node that is not heard).
    """

    def __init__(
        self, settings: WarmSettings, router: Router, cache_map: CacheMap, free_models: Callable[[str], float]
    ) -> None:
        self._settings = settings
        self._router = router
        self._map = cache_map
        self._free_models = free_models
        self._under_way: dict[str, set[str]] = {}
        self._refused: dict[tuple[str, str], float] = {}
        self.nodes: frozenset[str] = frozenset()
        """Nodes that can be asked at all, as of this step: alive, heard, and here to stay."""

    def look(self, now: float) -> frozenset[str]:
        """A step begins. Returns the nodes that can be asked from now on, and could not be before."""
        leaving = self._map.leaving
        heard = (node.id for node in self._router.nodes if self._map.is_live(node.id) and node.id not in leaving)
        before, self.nodes = self.nodes, frozenset(node_id for node_id in heard if self._router.is_alive(node_id))
        self._refused = {pair: until for pair, until in self._refused.items() if until > now}
        return self.nodes - before

    def begin(self, warm_up: WarmUp) -> bool:
        """Take it down as under way. False if it is already, or the node has enough to load."""
        at_node = self._under_way.setdefault(warm_up.node_id, set())
        if warm_up.model in at_node or len(at_node) >= self._settings.per_node:
            return False
        at_node.add(warm_up.model)
        return True

    def ended(self, warm_up: WarmUp, loaded: bool, now: float, again: float = math.inf) -> None:
        """The node has loaded the model, or cannot: then it is not asked for it for `again` seconds, or less."""
        at_node = self._under_way.get(warm_up.node_id, set())
        at_node.discard(warm_up.model)
        if not at_node:
            self._under_way.pop(warm_up.node_id, None)
        if not loaded:
            self._refused[warm_up.node_id, warm_up.model] = now + min(again, self._settings.again)

    def is_busy(self, node_id: str) -> bool:
        """Whether anything is under way at the node."""
        return node_id in self._under_way

    def eligible(self, model: str) -> list[str]:
        """Nodes that can be asked, in the model's order."""
        return [node_id for node_id in self._router.order(model) if node_id in self.nodes]

    def is_held(self, model: str) -> bool:
        """Whether a node that stays holds the model."""
        holders = self._map.holders(model).items()
        return any(state is Residency.AVAILABLE and node_id in self.nodes for node_id, state in holders)

    def is_held_afar(self, model: str) -> bool:
        """Whether nodes of other zones hold the model, which the header reaches, and no other node does."""
        holders = [node_id for node_id, state in self._map.holders(model).items() if state is Residency.AVAILABLE]
        nodes = [node for node_id in holders if (node := self._router.node(node_id)) is not None]
        return bool(nodes) and all(node.is_far for node in nodes)

    def comes(self, node_id: str, model: str) -> bool:
        """Whether the model is on its way to the node, asked for or not."""
        loading = self._map.state(node_id, model) is Residency.LOADING
        return loading or model in self._under_way.get(node_id, ())

    def may_ask(self, node_id: str, model: str) -> bool:
        """Whether the node lacks the model, and has not refused it lately."""
        absent = self._map.state(node_id, model) is Residency.ABSENT
        return absent and not self.comes(node_id, model) and (node_id, model) not in self._refused

    def has_room(self, node_id: str) -> bool:
        """Whether one more model goes into the node beside what is under way to it."""
        return self._free_models(node_id) > len(self._under_way.get(node_id, ()))
