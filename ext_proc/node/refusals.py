"""Refusals: the error that a client is told when the model cache cannot give a model."""

from ext_proc.errors import CallError, Reason
from mesh.model_cache.errors import BadName, Busy, CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway

_REASONS: dict[type[CacheError], Reason] = {
    BadName: Reason.INVALID,
    ModelMissing: Reason.NOT_FOUND,
    ModelBroken: Reason.BROKEN_MODEL,
    StoreAway: Reason.UNAVAILABLE,
    NoRoom: Reason.NO_ROOM,
    Busy: Reason.UNAVAILABLE,
}


def refusal(error: CacheError) -> CallError:
    """The client's error for one of the cache; INTERNAL for a kind that is not in the table.

    The error's `cause` is left out: it may name buckets and hosts of the store, and is for /status and the log only.
    """
    if isinstance(error, Busy):
        return CallError(_REASONS[Busy], error.message, error.retry_after, elsewhere=True)
    return CallError(_REASONS.get(type(error), Reason.INTERNAL), error.message)
