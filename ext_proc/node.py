"""The node role: holds a call until its model is loaded, and lets it pass."""

import asyncio

from ext_proc.errors import CallError, Reason
from ext_proc.stream.decision import Decision, Held, Hold, Pass
from ext_proc.stream.events import Head
from ext_proc.wire.call import Call, Verb
from mesh.model_cache.errors import BadName, Busy, CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.model_cache.lease import Lease
from mesh.model_cache.manager import Manager

# Questions about what is loaded are answered as it is; every other call brings its model.
_ASKS_ONLY = frozenset({Verb.STATUS, Verb.STATISTICS})

_REASONS: dict[type[CacheError], Reason] = {
    BadName: Reason.INVALID,
    ModelMissing: Reason.NOT_FOUND,
    ModelBroken: Reason.BROKEN_MODEL,
    StoreAway: Reason.UNAVAILABLE,
    NoRoom: Reason.NO_ROOM,
    Busy: Reason.UNAVAILABLE,
}


class NodeDesk:
    """Decides about calls that arrive at this node. A hit is one look-up in memory, and asks nobody."""

    # The lease on a model is held until the reply has ended.
    follows_replies = True

    def __init__(self, manager: Manager, body_limit: int, hold_seconds: float) -> None:
        self._manager = manager
        self._hold_seconds = hold_seconds
        self.body_limit = body_limit

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        """Passes a call for a resident model; holds one for a model that has to come first."""
        if call.verb in _ASKS_ONLY:
            return Pass()
        lease = self._manager.try_acquire(call.model, call.version, call.label)
        return Hold() if lease is None else Pass(lease)

    async def resolve(self, held: Held) -> Decision:
        """Waits until the model is there. Raises CallError; whoever stops waiting does not stop the load."""
        call = held.call
        try:
            async with asyncio.timeout(self._hold_seconds):
                return Pass(await self._manager.ensure(call.model, call.version, call.label))
        except TimeoutError:
            raise CallError(Reason.UNAVAILABLE, f"Model {call.model!a} is still being loaded.", 1.0) from None
        except CacheError as error:
            if call.verb is Verb.READY and not isinstance(error, BadName):
                return Pass()  # the model server says "not ready" in its own words
            raise refusal(error) from None

    def started(self, lease: Lease) -> None:
        """The model was taken into use when the lease was given."""

    def finished(self, lease: Lease) -> None:
        """The call is over: its model may be unloaded as far as this call goes."""
        lease.release()


def refusal(error: CacheError) -> CallError:
    """What a client is told. The error's `cause` is for /status and the log only: it may name the store's insides."""
    retry_after = error.retry_after if isinstance(error, Busy) else None
    return CallError(_REASONS.get(type(error), Reason.INTERNAL), error.message, retry_after)
