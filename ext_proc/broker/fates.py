"""What became of the calls of a race, read from its log."""

from dataclasses import dataclass
from enum import StrEnum

from ext_proc.broker.effects import Answer
from ext_proc.broker.race import Race
from ext_proc.broker.schedule import micros


class Fate(StrEnum):
    """What became of a candidate's call."""

    WON = "won"
    LOST = "lost"
    """It has answered for nothing."""
    LATE = "late"
    """It was still running when the time was up, at T - m."""
    CANCELLED = "cancelled"
    """An answer made it useless before, or the client left."""
    FAILED = "failed"


@dataclass(slots=True)
class CallFate:
    """One candidate's call: from when to when it ran, in microseconds since the race's arrival."""

    fate: Fate
    begun: int
    ended: int
    refused: bool
    """It has failed, and did no work."""


def fates_of(race: Race) -> dict[tuple[int, int], CallFate]:
    """By rank and member, every candidate call of a race that was started and has ended."""
    won = race.outcome.rank if isinstance(race.outcome, Answer) else None
    time_up = micros(race.plan.limit_ms) - micros(race.margin_ms)
    begun: dict[tuple[int, int], int] = {}
    found: dict[tuple[int, int], CallFate] = {}
    for at, what, rank, member in race.log:
        if what == "start":
            begun[rank, member] = at
            continue
        if what in ("failed", "refused"):
            fate = Fate.FAILED
        elif what == "result":
            fate = Fate.WON if rank == won else Fate.LOST
        elif what == "cancel":
            fate = Fate.LATE if at >= time_up else Fate.CANCELLED
        else:
            continue
        found[rank, member] = CallFate(fate, begun.get((rank, member), at), at, what == "refused")
    return found
