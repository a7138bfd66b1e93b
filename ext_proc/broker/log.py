"""The log of a race: what happened, in order, and the work that was started according to it.

The log is the whole memory of a race for everybody outside: its record, the replay and the metrics are read from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Note = tuple[int, str, int, int]
"""One line of a race's log: microseconds since arrival, what happened, rank, member."""


@dataclass(frozen=True, slots=True)
class Work:
    """Estimated work in ms: the primary, hedges beside a better candidate, rescues in the place of failed ones."""

    primary: float
    hedged: float
    rescue: float


def started_work(log: Iterable[Note], costs_ms: Sequence[float]) -> Work:
    """The work that was started, by its purpose; `costs_ms` is the estimated work of each rank."""
    hedged, started = set(), set()
    for _, what, rank, _ in log:
        if what == "start":
            started.add(rank)
        elif what in ("granted", "exempt"):
            hedged.add(rank)
    rescue = started - hedged - {0}
    return Work(
        primary=costs_ms[0] if 0 in started else 0.0,
        hedged=sum([costs_ms[rank] for rank in hedged]),
        rescue=sum([costs_ms[rank] for rank in rescue]),
    )
