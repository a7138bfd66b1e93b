"""One rank of a race: a candidate or a mix, and how far it has come."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

from ext_proc.broker.plan import RankedTarget, members
from ext_proc.broker.schedule import Estimate


class State(Enum):
    """Waiting and running candidates can still finish; the other states are final, but for a held one that answers."""

    WAITING = auto()
    RUNNING = auto()
    HELD = auto()
    FAILED = auto()
    DROPPED = auto()  # useless: a better one has a result


class CallState(Enum):
    """One call of a rank."""

    PENDING = auto()
    ARRIVED = auto()
    FAILED = auto()


class RankState:
    """State of one rank. `due` is when it starts (None: only if a better one fails), `latest` T - e - m, both in us.

    `cost_ms` is its estimated work; none of its calls can work for longer than the limit of the call.
    """

    __slots__ = (
        "candidates", "cost_ms", "due", "entrant", "error", "latest", "legs", "payloads", "rank", "refused", "result",
        "state",
    )  # fmt: skip

    def __init__(
        self, rank: int, entrant: RankedTarget, estimates: Sequence[Estimate], due: int, latest: int, limit_ms: float
    ) -> None:
        self.rank = rank
        self.entrant = entrant
        self.candidates = members(entrant)
        self.cost_ms = sum(min(estimate.ms, limit_ms) for estimate in estimates)
        self.due: int | None = due
        self.latest = latest
        self.state = State.WAITING
        self.legs = [CallState.PENDING] * len(self.candidates)
        self.payloads: dict[int, Any] = {}
        self.result: Any = None
        self.error: Any = None
        self.refused = False

    @property
    def can_finish(self) -> bool:
        """Whether a result of this rank may still come."""
        return self.state is State.WAITING or self.state is State.RUNNING

    @property
    def partial(self) -> bool:
        """Whether some of its calls did not answer."""
        return len(self.payloads) < len(self.legs)

    def is_pending(self, member: int) -> bool:
        """Whether this call was started and has not ended."""
        return self.state is State.RUNNING and self.legs[member] is CallState.PENDING

    def pending(self) -> list[int]:
        """The calls that were started and have not ended."""
        if self.state is not State.RUNNING:
            return []
        return [member for member, leg in enumerate(self.legs) if leg is CallState.PENDING]

    def fail(self, error: Any, *, refused: bool) -> None:
        """The whole rank has failed; the first error of its calls is the one that is told."""
        self.state = State.FAILED
        if self.error is None:
            self.error = error
            self.refused = refused
