"""Calls that Envoy carries to the model server by itself: the cache hears of them late, and gives no lease for each.

That a model was used counts when it is heard. A call that runs for longer than others says so again and again, and
holds a lease from then on until nothing more is heard: its model is in use, as under any call.
"""

from collections.abc import Callable

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.lease import Lease
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.versions import Versions

LATE_SECONDS, OFTEN_LATE_SECONDS = 0.5, 5.0
"""Who is heard of may have been called for so long since; and who is called often, of whom not every call is told."""
_SERVING = frozenset({ModelState.AVAILABLE, ModelState.DRAINING})


class CarriedCalls:
    """Belongs to one event loop. Times in seconds of the cache's clock."""

    def __init__(
        self,
        cache: CacheState,
        versions: Versions,
        server: ServerHealth,
        holds_for: float,
        changed: Callable[[str], None],
    ) -> None:
        """`holds_for`: for how long a call that runs counts as running. `changed` is told of each model for which
        `may_come` may be another one now, and of "" where that may be so for all.
        """
        self._cache = cache
        self._versions = versions
        self._server = server
        self._holds_for = holds_for
        self._busy_until: dict[str, float] = {}  # of models that were once in use here, the longest unheard first
        self._running: dict[str, tuple[dict[Key, Lease], float]] = {}
        self.lacking = server.suspect
        """A call has ended in a way that a restart of the model server would explain."""
        cache.before_eviction = self._catch_up
        cache.on_change = changed
        server.on_change = lambda: changed("")

    def may_come(self, model: str) -> bool:
        """Whether a call for the model that names no version may use it without a question: all that it could reach is
        there and stays.
        """
        entry = self._versions.in_use(model)
        if not self._server.verified or entry is None or entry.state is not ModelState.AVAILABLE or entry.needs:
            return False
        return all(each.state is not ModelState.DRAINING for each in self._cache.versions_of(model))

    @property
    def any_may_come(self) -> bool:
        """Whether there may be such models at all."""
        return self._server.verified

    def ended(self, model: str, now: float, often: bool = False) -> None:
        """Calls for the model have ended, some moments ago; `often`: they stand for others."""
        entry = self._versions.called(model, None, None, now)  # which also has the store asked for a newer version
        if entry is not None:
            self._busy_until.pop(model, None)
            self._busy_until[model] = now + (OFTEN_LATE_SECONDS if often else LATE_SECONDS)
            self._cache.used(entry, now)

    def runs(self, model: str, now: float) -> None:
        """A call for the model runs. `expire` is to be called then."""
        leases, _ = self._running.get(model, ({}, 0.0))
        for entry in self._cache.versions_of(model):
            # In which version it runs nobody knows: one may have taken over from another since the call came.
            if entry.state in _SERVING and entry.key not in leases:
                leases[entry.key] = self._cache.lease(entry, now)
        if leases:
            self._running[model] = leases, now + self._holds_for

    def expire(self, now: float) -> float | None:
        """Gives back the leases of calls of which nothing was heard any more; when it is due again."""
        for model, (leases, until) in list(self._running.items()):
            if until <= now:
                del self._running[model]
                for lease in leases.values():
                    lease.release()
        return min((until for _, until in self._running.values()), default=None)

    def _catch_up(self) -> None:
        """Whoever was heard of lately may be in use at this moment, and goes after those that surely are not."""
        now = self._cache.clock()
        self._busy_until = {model: until for model, until in self._busy_until.items() if now < until}
        for model in self._busy_until:
            entry = self._versions.in_use(model)
            if entry is not None:
                self._cache.used(entry, now)
