"""Effects: what a race asks its shell (`racing.race_runner`) to do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ext_proc.broker.plan import Candidate, StaticAnswer


class Why(StrEnum):
    """Why this answer, and not the primary's; the `why` of the `tbms-answer` header."""

    PRIMARY = "primary"
    """The primary itself answered."""
    PARTIAL = "partial"
    """The primary is a mix, and some of its members answered."""
    OVERDUE = "overdue"
    """The primary was still running when the time was up."""
    FIRST = "first"
    """The primary was still running, and the call takes the first answer."""
    FAILED = "failed"
    """The primary failed."""
    REFUSED = "refused"
    """The primary was refused before any work was done: shed, no connection."""
    DEADLINE = "deadline"
    """Nobody answered by the limit."""
    EXPIRED = "expired"
    """The limit had passed when the call arrived; nobody was asked."""
    FALLBACK = "fallback"
    """Nobody answered, and the fixed answer of the configuration was given."""


@dataclass(slots=True, init=False)
class Start:
    """Send the call to one candidate: member `member` of rank `rank` (0 unless it is a mix).

    `remaining_ms` is the time to the limit. `hedge`: a better candidate is still running.
    """

    rank: Final[int]
    member: Final[int]
    candidate: Final[Candidate]
    remaining_ms: Final[float]
    hedge: Final[bool]

    def __init__(self, rank: int, member: int, candidate: Candidate, remaining_ms: float, hedge: bool) -> None:
        self.rank = rank
        self.member = member
        self.candidate = candidate
        self.remaining_ms = remaining_ms
        self.hedge = hedge


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up a call that was started and has neither answered nor failed."""

    rank: int
    member: int


@dataclass(slots=True, init=False)
class Answer:
    """Return this result to the client; the race is over.

    `payload` is what was handed in with the result, or what `combine` made of the results of a mix.
    `members` are those that it was made of; `partial` where a mix lacks some. `left_ms` is the time to
    the limit: below 0 only where the shell's clock overslept with a result held.
    """

    rank: Final[int]
    payload: Final[Any]
    why: Final[Why]
    members: Final[tuple[int, ...]]
    partial: Final[bool]
    elapsed_ms: Final[float]
    left_ms: Final[float]

    def __init__(
        self,
        rank: int,
        payload: Any,
        why: Why,
        members: tuple[int, ...],
        partial: bool,
        elapsed_ms: float,
        left_ms: float,
    ) -> None:
        self.rank = rank
        self.payload = payload
        self.why = why
        self.members = members
        self.partial = partial
        self.elapsed_ms = elapsed_ms
        self.left_ms = left_ms


@dataclass(frozen=True, slots=True)
class Fail:
    """Return an error; the race is over. `error` is the primary's own, None where nobody answered in time."""

    why: Why
    error: Any
    elapsed_ms: float
    left_ms: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """Return the configured answer in place of the error `cause`; the race is over."""

    answer: StaticAnswer
    cause: Why
    elapsed_ms: float
    left_ms: float


Outcome = Answer | Fail | Fallback
Effect = Start | Cancel | Answer | Fail | Fallback
