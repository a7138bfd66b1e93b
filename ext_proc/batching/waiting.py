"""Waiting: one call, or a piece of one, in a queue; and the batch that it leaves in."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ext_proc.batching.queue import BatchQueue


class State(Enum):
    """Where a call stands."""

    WAITING = auto()
    SENT = auto()
    GONE = auto()  # withdrawn, dropped or done


@dataclass(slots=True, eq=False, init=False)
class Waiting:
    """One call that may wait for company. Times in seconds on the scheduler's clock.

    Calls with equal `key` may share a batch; None: this one goes alone. `size` is in bytes. `deadline` is when its
    answer has to be here, the way back left out, and `lag_end` when it stops waiting for company; both may be infinite.
    `server_batches`: the model server gathers by itself, and has slots for the model that are no device's. `payload` is
    the shell's.
    """

    model: str
    key: Hashable
    rows: int
    size: int
    arrived: float
    deadline: float
    lag_end: float
    priority: int
    race: str | None
    server_batches: bool
    payload: Any
    state: State
    order: tuple[int, float, int]
    """Its place in its queue: by priority, then deadline, then arrival. Set by the scheduler."""
    queue: "BatchQueue | None" = field(repr=False)
    """Where it waits."""

    def __init__(
        self,
        model: str,
        key: Hashable,
        rows: int,
        size: int,
        arrived: float,
        deadline: float = inf,
        lag_end: float = inf,
        priority: int = 0,
        race: str | None = None,
        server_batches: bool = False,
        payload: Any = None,
    ) -> None:
        self.model = model
        self.key = key
        self.rows = rows
        self.size = size
        self.arrived = arrived
        self.deadline = deadline
        self.lag_end = lag_end
        self.priority = priority
        self.race = race
        self.server_batches = server_batches
        self.payload = payload
        self.state = State.WAITING
        self.order = (0, 0.0, 0)
        self.queue = None

    @property
    def due(self) -> float:
        """The deadline that orders it: for a call without one, what it was given instead."""
        return self.order[1]


@dataclass(slots=True, init=False)
class Batch:
    """Calls that leave together, in the order of their queue. `rows` is what the model gets: filled up, where so
    configured, with copies of the last row.
    """

    number: Final[int]
    model: Final[str]
    members: Final[tuple[Waiting, ...]]
    rows: Final[int]
    why: Final["Leaving"]

    def __init__(self, number: int, model: str, members: tuple[Waiting, ...], rows: int, why: "Leaving") -> None:
        self.number = number
        self.model = model
        self.members = members
        self.rows = rows
        self.why = why


class Leaving(Enum):
    """Why a batch left when it did."""

    FULL = "full"
    IDLE = "idle"
    """The device had nothing else to do."""
    URGENT = "urgent"
    """Its most urgent member could not wait any longer."""
    LAG = "lag"
    """A member's time for company was over."""


class Dropped(Enum):
    """Why a call left without a batch."""

    LATE = "late"
    """It cannot be answered within its limit any more."""
    SHED = "shed"
    """The queues are full, and it is not among the most important."""


@dataclass(slots=True, init=False)
class Send:
    """Effect: hand this batch to the model server; `Scheduler.finished` or `again` is to follow."""

    batch: Final[Batch]

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: refuse this call. `retry_after`: seconds until it may have better luck."""

    call: Waiting
    why: Dropped
    retry_after: float


Effect = Send | Drop
