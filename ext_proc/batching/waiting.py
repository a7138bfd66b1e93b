"""Waiting: one call, or a piece of one, in a queue; and the batch that it leaves in."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ext_proc.batching.queue import BatchQueue


class State(Enum):
    """Where a call stands."""

    WAITING = auto()
    SENT = auto()
    GONE = auto()  # withdrawn, dropped or done


@dataclass(slots=True, eq=False)
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
    deadline: float = inf
    lag_end: float = inf
    priority: int = 0
    race: str | None = None
    server_batches: bool = False
    payload: Any = None
    state: State = field(default=State.WAITING, init=False)
    order: tuple[int, float, int] = field(default=(0, 0.0, 0), init=False)
    """Its place in its queue: by priority, then deadline, then arrival. Set by the scheduler."""
    queue: "BatchQueue | None" = field(default=None, init=False, repr=False)
    """Where it waits."""

    @property
    def due(self) -> float:
        """The deadline that orders it: for a call without one, what it was given instead."""
        return self.order[1]


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that leave together, in the order of their queue. `rows` is what the model gets: filled up, where so
    configured, with copies of the last row.
    """

    number: int
    model: str
    members: tuple[Waiting, ...]
    rows: int
    why: "Leaving"


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


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: hand this batch to the model server; `Scheduler.finished` or `again` is to follow."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: refuse this call. `retry_after`: seconds until it may have better luck."""

    call: Waiting
    why: Dropped
    retry_after: float


Effect = Send | Drop
