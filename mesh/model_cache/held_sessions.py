"""The sessions of a node: each holds a lease on its model between its calls, until it ends or is idle for too long.

So a model with a live session is in use, as one with a call in flight is: it is not evicted, an unload waits for the
session, and so does a node that leaves. Calls of the session are answered meanwhile, also while their model drains.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.lease import Lease
from mesh.session_claim import SessionClaim

MOST = 20_000
"""Sessions at once; beyond, the one without a call for longest holds its model no more."""

_SERVING = frozenset({ModelState.AVAILABLE, ModelState.DRAINING})


@dataclass(slots=True)
class _Held:
    lease: Lease
    until: float


class HeldSessions:
    """Belongs to one event loop. `lease` makes one more lease on a model that is in the model server.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self, lease: Callable[[CacheEntry, float], Lease], clock: Callable[[], float], most: int = MOST
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._most = most
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the longest without a call first

    def __len__(self) -> int:
        return len(self._held)

    def again(self, claim: SessionClaim, model: str) -> Lease | None:
        """A lease for one more call of a live session of that model; None where there is none."""
        held = self._held.get(claim.key)
        if held is None:
            return None
        entry = held.lease.entry
        return self._lease(entry, self._clock()) if entry.key.model == model and entry.state in _SERVING else None

    def join(self, claim: SessionClaim, lease: Lease) -> "SessionLease":
        """The call that has this lease is one of the session, which lives on after it unless it is the last."""
        self._keep(claim, lease.entry)
        return SessionLease(self, claim, lease)

    def left(self, claim: SessionClaim, entry: CacheEntry) -> None:
        """A call of the session is about to give its lease back."""
        if claim.last:
            self._drop(claim.key)
        else:
            self._keep(claim, entry)

    def expire(self) -> None:
        """Ends the sessions that are idle for too long. Looks at all of them: to be called now and then."""
        now = self._clock()
        for key in [key for key, held in self._held.items() if held.until <= now]:
            self._drop(key)

    def _keep(self, claim: SessionClaim, entry: CacheEntry) -> None:
        """The session's time begins anew. A model that the server has lost keeps nothing of it."""
        held = self._held.get(claim.key)
        if held is not None and held.lease.entry is not entry:
            self._drop(claim.key)
            held = None
        now = self._clock()
        if held is None:
            if entry.state not in _SERVING:
                return
            if len(self._held) >= self._most:
                self._drop(next(iter(self._held)))
            held = self._held[claim.key] = _Held(self._lease(entry, now), now)
        held.until = now + claim.idle_seconds
        self._held.move_to_end(claim.key)

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held.lease.release()


class SessionLease:
    """The lease of one call of a session: when it is given back, the session goes on holding the model."""

    __slots__ = ("_claim", "_lease", "_sessions")

    def __init__(self, sessions: HeldSessions, claim: SessionClaim, lease: Lease) -> None:
        self._sessions = sessions
        self._claim = claim
        self._lease: Lease | None = lease

    def release(self) -> None:
        """The call has ended. A second release does nothing."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._sessions.left(self._claim, lease.entry)
            lease.release()
