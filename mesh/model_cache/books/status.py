"""What the cache shows of itself on /status."""

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.model_cache.books.states import CacheEntry, Room


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model version. Times are in seconds before now; sizes in bytes."""

    model: str
    version: int
    state: str
    pinned: bool
    in_flight: int
    waiting: int
    disk_bytes: int
    memory_bytes: int
    fetched_bytes: int
    idle_seconds: float
    state_seconds: float
    cause: str
    attempts: int
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The whole node. `free` is what is neither in use nor promised (infinite: no limit)."""

    models: tuple[ModelStatus, ...]
    capacity: Room
    free: Room
    server: str
    """Why the model server is away; empty while it is there."""
    store: Mapping[str, str]
    """Models of which the store could not be asked the last time, and why."""


def describe(entry: CacheEntry, waiting: int, pinned: bool, attempts: int, retry_at: float, now: float) -> ModelStatus:
    """One entry of the books as it is shown."""
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
    )
