"""The warm-up plan: which model a node should load before calls are sent to it.

Three reasons, in this order. A node that leaves: what it holds is loaded by the next node of each model's order. A
node that joins: it loads the models in demand whose home it is (the first of their order), as far as it has room. A
model with more load than its copies carry: another node loads it, and once it has, calls go there too.

Calls follow by themselves, as the router prefers nodes that hold the model. Nothing here is needed for an answer: a
node loads what it lacks when a call comes. So the plan is slow on purpose, and gives up easily.
"""

import math
from collections.abc import Callable, Iterator

from mesh.residency.cache_map import CacheMap
from mesh.routing.router import Router
from mesh.warming.handover import Handover
from mesh.warming.load_requests import LoadRequests, WarmUp
from mesh.warming.settings import WarmSettings
from mesh.warming.spread import Spread


class WarmPlan:
    """Decides; `ended` is told of every end. Times are seconds of one monotonic clock.

    `free_models` says for how many more models a node has room, as it reported (0 for a node that is not heard).
    """

    def __init__(
        self, settings: WarmSettings, router: Router, cache_map: CacheMap, free_models: Callable[[str], float]
    ) -> None:
        self._per_second = settings.per_second
        self._requests = LoadRequests(settings, router, cache_map, free_models)
        self._handover = Handover(router, cache_map, self._requests)
        self._spread = Spread(router, self._requests, settings.replica_load)
        self._tokens = 1.0
        self._filled_at = -math.inf

    def next(self, now: float) -> list[WarmUp]:
        """What is to be asked for now. To be called some times a second."""
        self._fill(now)
        self._spread.joined(self._requests.look(now))
        chosen: list[WarmUp] = []
        for warm_up in self._wanted(now):
            if self._tokens < 1.0:
                break
            if self._requests.begin(warm_up):
                self._tokens -= 1.0
                chosen.append(warm_up)
        return chosen

    def ended(self, warm_up: WarmUp, loaded: bool, now: float, again: float = math.inf) -> None:
        """The node has loaded the model, or cannot: then another node is asked, or the same one later.

        `again` is after how many seconds that may be, where the node says so, and it is sooner than the settings'.
        """
        self._requests.ended(warm_up, loaded, now, again)

    def needs(self, node_id: str) -> bool:
        """Whether a leaving node still holds what is to be loaded elsewhere first."""
        return self._handover.needs(node_id)

    def _fill(self, now: float) -> None:
        gained = max(now - self._filled_at, 0.0) * self._per_second
        self._tokens = min(self._tokens + gained, max(self._per_second, 1.0))
        self._filled_at = now

    def _wanted(self, now: float) -> Iterator[WarmUp]:
        yield from self._handover.wanted(now)
        yield from self._spread.wanted(now)
