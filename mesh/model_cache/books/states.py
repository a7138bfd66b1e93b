"""The states of a model version and their legal transitions, the room that it takes, and its entry in the books."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from mesh.errors import MeshError
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import Need


class ModelState(StrEnum):
    """The state of a model version on this node."""

    ABSENT = "absent"  # not in the model server; its files may still lie on the disk
    FETCHING = "fetching"  # room is promised to it; waits for that room, or its files are on their way
    LOADING = "loading"  # the model server works on it
    AVAILABLE = "available"  # calls are answered
    DRAINING = "draining"  # takes no new calls; unloaded once those in flight have ended
    FAILED = "failed"  # could not be brought; tried again after a back-off


LEGAL: dict[ModelState, frozenset[ModelState]] = {
    # To AVAILABLE at once: adopted, the model server held it already.
    ModelState.ABSENT: frozenset({ModelState.FETCHING, ModelState.AVAILABLE}),
    ModelState.FETCHING: frozenset({ModelState.LOADING, ModelState.FAILED, ModelState.ABSENT}),
    ModelState.LOADING: frozenset({ModelState.AVAILABLE, ModelState.FAILED, ModelState.ABSENT}),
    # To ABSENT at once: the model server was restarted and has lost it.
    ModelState.AVAILABLE: frozenset({ModelState.DRAINING, ModelState.ABSENT}),
    ModelState.DRAINING: frozenset({ModelState.ABSENT}),
    ModelState.FAILED: frozenset({ModelState.FETCHING, ModelState.ABSENT}),
}

IN_SERVER = frozenset({ModelState.LOADING, ModelState.AVAILABLE, ModelState.DRAINING})
"""The states in which a model takes memory of the model server."""
CLAIMING = frozenset({ModelState.FETCHING, ModelState.LOADING, ModelState.AVAILABLE})
"""The states in which a model has a right to its place and its memory."""


class IllegalTransition(MeshError):
    """A transition that `LEGAL` does not know: a mistake of this package."""


@dataclass(frozen=True, slots=True)
class Room:
    """An amount of the three things that models take. Also a capacity (infinite: no limit), and a need."""

    models: float = 0
    """Places in the model server."""
    disk_bytes: float = 0
    """Of this node's disk."""
    memory_bytes: float = 0
    """Of the model server."""

    def __add__(self, other: "Room") -> "Room":
        return Room(
            self.models + other.models, self.disk_bytes + other.disk_bytes, self.memory_bytes + other.memory_bytes
        )

    def __sub__(self, other: "Room") -> "Room":
        return Room(
            self.models - other.models, self.disk_bytes - other.disk_bytes, self.memory_bytes - other.memory_bytes
        )

    def fits(self, other: "Room") -> bool:
        """Whether this much goes into `other`."""
        return (
            self.models <= other.models
            and self.disk_bytes <= other.disk_bytes
            and self.memory_bytes <= other.memory_bytes
        )


@dataclass(slots=True, eq=False)
class CacheEntry:
    """One model version in the books. Times are in seconds of one monotonic clock."""

    key: Key
    state: ModelState = ModelState.ABSENT
    disk_bytes: int = 0
    """Size of its files; while they are fetched, their size at the end."""
    memory_bytes: int = 0
    """Memory in the model server: estimated before the load, measured after it where the server tells."""
    in_flight: int = 0
    """Calls, and sessions, that hold a lease on it."""
    last_used: float = 0.0
    """When a call took its lease last."""
    since: float = 0.0
    """When it came into this state."""
    begun: bool = False
    """Whether it takes the room that was promised to it: not so while the evicted models still have that room."""
    complete: bool = False
    """Whether all its files are on the disk."""
    leaving: bool = False
    """Whether its files are about to be removed."""
    digest: str = ""
    """What the files on the disk are, as the store said (`Remote.digest`); empty where that is not known."""
    fetched_bytes: int = 0
    """How many bytes of its files are on the disk."""
    cause: str = ""
    """Why it failed, or why it could not be unloaded yet."""
    needs: tuple[Need, ...] = ()
    """The models that it needs itself, known since it was promised room or adopted; see `Relations.relate`."""

    batcher: str = ""
    """What makes the model server gather calls of it of its own accord; see `Loader.batcher`."""

    def move(self, state: ModelState, now: float, cause: str = "") -> None:
        """Go to another state; `cause` says why, for /status. Raises IllegalTransition."""
        if state not in LEGAL[self.state]:
            raise IllegalTransition(f"Model {self.key} cannot go from {self.state} to {state}.")
        self.state = state
        self.since = now
        self.cause = cause

    @property
    def promised(self) -> Room:
        """The room that it may take now or later. What is about to go counts as gone."""
        return promised_to((self,))

    @property
    def present(self) -> Room:
        """The room that it takes at this moment, or is taking bit by bit."""
        return taken_by((self,))


# Books are summed up for each load, so nothing is made for each entry here.


def promised_to(entries: Iterable[CacheEntry]) -> Room:
    """The room that these may take now or later, together. What is about to go counts as gone."""
    models = disk = memory = 0
    for entry in entries:
        if entry.state in CLAIMING:
            models += 1
            memory += entry.memory_bytes
        if not entry.leaving:
            disk += entry.disk_bytes
    return Room(models, disk, memory)


def taken_by(entries: Iterable[CacheEntry]) -> Room:
    """The room that these take at this moment, or are taking bit by bit."""
    models = disk = memory = 0
    for entry in entries:
        if entry.state in IN_SERVER or (entry.state is ModelState.FETCHING and entry.begun):
            models += 1
            memory += entry.memory_bytes
        waits = entry.state in CLAIMING and not entry.begun
        disk += entry.fetched_bytes if waits else entry.disk_bytes
    return Room(models, disk, memory)
