"""Models in demand, round by round: home again to a node that has joined, to as many nodes as their load needs, and to
this zone where only another one holds them.
"""

import math
from collections.abc import Iterator

from mesh.routing.router import Router
from mesh.warming.load_requests import CHUNK, LoadRequests, WarmUp

_SHRINK = 0.5
"""A replica goes when the load fills the others to no more than this share: growth and shrinkage never alternate."""


class Spread:
    """Tells the router over how many nodes to spread a model, and says who is to load it.

    Times are seconds of one monotonic clock.
    `replica_load` is how many calls in flight one copy of a model carries.
    """

    def __init__(self, router: Router, requests: LoadRequests, replica_load: float) -> None:
        self._router = router
        self._requests = requests
        self._replica_load = replica_load
        self._round: Iterator[str] = iter(())
        self._joining: dict[str, bool] = {}
        """Nodes that have come, and whether this round over the models has found something for them."""

    def joined(self, newcomers: frozenset[str]) -> None:
        """A step begins; these nodes can be asked from now on."""
        self._joining = {node_id: found for node_id, found in self._joining.items() if node_id in self._requests.nodes}
        self._joining |= dict.fromkeys(newcomers, True)  # True: the round under way may have passed it by

    def wanted(self, now: float) -> Iterator[WarmUp]:
        """Models in demand, some at each step: home again, and to as many nodes as their load asks for."""
        for _ in range(CHUNK):
            model = next(self._round, None)
            if model is None:
                self._begin_round()
                return
            rate = self._router.demand.rate(model, now)
            load = rate * self._router.call_seconds(model, now)
            copies = self._set_spread(model, load, len(self._requests.nodes))
            afar = rate > 0.0 and self._requests.is_held_afar(model)
            if rate == 0.0 or (copies == 1 and not self._joining and not afar) or not self._requests.is_held(model):
                continue
            eligible = self._requests.eligible(model)
            home = eligible[0]
            if copies > 1:  # worth an eviction
                for node_id in eligible[:copies]:
                    if self._requests.may_ask(node_id, model):
                        yield WarmUp(node_id, model, into_free_room=False)
                continue
            wanted = home in self._joining or afar
            if wanted and self._requests.may_ask(home, model) and self._requests.has_room(home):
                if home in self._joining:
                    self._joining[home] = True
                yield WarmUp(home, model, into_free_room=True)

    def _begin_round(self) -> None:
        """A node has joined when a whole round has found nothing for it, and nothing is on its way there."""
        joining = self._joining.items()
        self._joining = {node_id: False for node_id, found in joining if found or self._requests.is_busy(node_id)}
        self._round = iter([*dict.fromkeys([*self._router.demand.models(), *self._router.widened_models])])

    def _set_spread(self, model: str, load: float, most: int) -> int:
        """Spread the model as its load (calls in flight) asks for, over at most `most` nodes. Returns the copies."""
        settings, each = self._router.settings, self._replica_load
        spread = self._router.spread_of(model)
        while spread < min(settings.max_replicas, most) and load > each * spread:
            spread += 1
        while spread > settings.replicas and (spread > most or load < _SHRINK * each * (spread - 1)):
            spread -= 1
        self._router.set_spread(model, spread)
        return max(1, min(math.ceil(load / each), spread))
