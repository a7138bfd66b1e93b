"""Handover: what a leaving node holds is loaded by the next node of each model's order, before its calls go there."""

from collections.abc import Iterator

from mesh.residency.cache_map import CacheMap
from mesh.residency.state import Residency
from mesh.routing.router import Router
from mesh.warming.load_requests import CHUNK, LoadRequests, WarmUp


class Handover:
    """Remembers of each leaving node what is still to be loaded elsewhere. Times are seconds of one monotonic clock."""

    def __init__(self, router: Router, cache_map: CacheMap, requests: LoadRequests) -> None:
        self._router = router
        self._map = cache_map
        self._requests = requests
        self._moves: dict[str, list[str]] = {}

    def needs(self, node_id: str) -> bool:
        """Whether a leaving node still holds what is to be loaded elsewhere first."""
        return bool(self._moves.get(node_id, True))

    def wanted(self, now: float) -> Iterator[WarmUp]:
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
                if self._requests.is_held(model):
                    continue
                eligible = self._requests.eligible(model)
                if any(self._requests.comes(other, model) for other in eligible):
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
        """The load to ask for. For a model that is not `called` no other model has to go."""
        for node_id in eligible:
            if not self._requests.may_ask(node_id, model):
                continue
            if called:
                return WarmUp(node_id, model, into_free_room=False)
            if self._requests.has_room(node_id):
                return WarmUp(node_id, model, into_free_room=True)
        return None
