"""The races in a server's log: kept for `tbms replay`, and added up."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ext_proc.broker.record import RaceRecord, read_records

_ENDS = ("result", "failed", "refused", "cancel")


def race_lines(log: Path) -> Iterator[str]:
    """The lines of a log of JSON lines that are races."""
    with log.open() as lines:
        yield from (line for line in lines if '"event": "race"' in line)


def records(log: Path) -> list[RaceRecord]:
    """The races of a log."""
    return list(read_records(race_lines(log)))


def extra_work(races: Iterable[RaceRecord]) -> float:
    """The time that backups worked / the time that primaries worked, each from its start to its end or cancellation."""
    primary = backups = 0.0
    for race in races:
        started: dict[tuple[int, int], float] = {}
        for at, what, rank, member in race.log:
            if what == "start":
                started[rank, member] = at
            elif what in _ENDS and (begun := started.pop((rank, member), None)) is not None:
                primary += (at - begun) * (rank == 0)
                backups += (at - begun) * (rank > 0)
    return backups / primary if primary else 0.0
