"""Effects: what a race asks its shell (`racing.race_runner`) to do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Start:
    """Send the call to one candidate: member `member` of rank `rank` (0 unless it is a mix).

    `remaining_ms` is the time to the limit. `hedge`: a better candidate is still running.
    """

    rank: int
    member: int
    candidate: Candidate
    remaining_ms: float
    hedge: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up a call that was started and has neither answered nor failed."""

    rank: int
    member: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Return this result to the client; the race is over.

    `payload` is what was handed in with the result, or what `combine` made of the results of a mix.
    `members` are those that it was made of; `partial` where a mix lacks some. `left_ms` is the time to
    the limit: below 0 only where the shell's clock overslept with a result held.
    """

    rank: int
    payload: Any
    why: Why
    members: tuple[int, ...]
    partial: bool
    elapsed_ms: float
    left_ms: float


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
