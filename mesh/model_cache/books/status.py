"""The status of the cache: what /status shows of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.model_cache.books.states import CacheEntry, Room


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model version. Times are in seconds before now, `retry_seconds` after now; sizes in bytes."""

    model: str
    version: int
    state: str
    pinned: bool
    in_flight: int
    waiting: int
    """Calls that wait for its load."""
    disk_bytes: int
    memory_bytes: int
    fetched_bytes: int
    idle_seconds: float
    state_seconds: float
    cause: str
    attempts: int
    """Loads in a row that have failed."""
    retry_seconds: float
    """Until it may be tried again; 0 where it may be now."""
    needs: tuple[str, ...]
    """The models that it needs, as `name` or `name:version`, as far as that is known."""
    batcher: str
    """What makes the model server gather its calls of its own accord; empty where nothing does."""


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The whole node. `free` is what is neither in use nor promised (infinite: no limit)."""

    models: tuple[ModelStatus, ...]
    capacity: Room
    free: Room
    server: str
    """Why the model server is away; empty while it is there."""
    store: Mapping[str, str]
    """Models of which the store could not be asked the last time, or has a version that cannot be fetched, and why."""


def describe(entry: CacheEntry, waiting: int, pinned: bool, attempts: int, retry_at: float, now: float) -> ModelStatus:
    """The status of one entry of the books; `retry_at` and `now` in seconds of the cache's clock."""
    return ModelStatus(
        model=entry.key.model,
        version=entry.key.version,
        state=str(entry.state),
        pinned=pinned,
        in_flight=entry.in_flight,
        waiting=waiting,
        disk_bytes=entry.disk_bytes,
        memory_bytes=entry.memory_bytes,
        fetched_bytes=entry.fetched_bytes,
        idle_seconds=max(now - entry.last_used, 0.0),
        state_seconds=max(now - entry.since, 0.0),
        cause=entry.cause,
        attempts=attempts,
        retry_seconds=max(retry_at - now, 0.0),
        needs=tuple(map(str, entry.needs)),
        batcher=entry.batcher,
    )
