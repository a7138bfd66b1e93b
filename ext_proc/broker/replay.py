"""Replay: recorded races run again, event by event, and every decision compared with the recorded one."""

from collections.abc import Iterable, Mapping
from typing import Any

from ext_proc.broker.log import Note
from ext_proc.broker.plan import Mix
from ext_proc.broker.race import Combine, Race
from ext_proc.broker.race_summary import RaceSummary
from ext_proc.broker.record import RaceRecord, RecordedBudget, outcome_record
from ext_proc.errors import CallError, Reason, TbmsError

_INPUTS = frozenset({"begin", "result", "failed", "refused", "timer", "gone"})


class ReplayedBudget:
    """A hedge budget that gives the recorded answers: the real one is shared by races that the recording may lack."""

    def __init__(self, budget: RecordedBudget, notes: Iterable[Note]) -> None:
        self.share = budget.share
        self.burst_ms = budget.burst_ms
        self.level_ms = budget.level_ms
        self._answers = [what == "granted" for _, what, _, _ in notes if what in ("granted", "denied", "exempt")]
        self._answers.reverse()

    def earn(self, work_ms: float) -> None:
        """The level is the recorded one."""

    def take(self, cost_ms: float) -> bool:
        """The next recorded answer."""
        return self._answers.pop() if self._answers else False

    def owe(self, cost_ms: float) -> None:
        """The level is the recorded one."""


def recorded_combine(notes: Iterable[Note]) -> Combine:
    """Combines as it went when it was recorded. Payloads are not recorded: each is the number of its rank."""
    unfit = {rank for _, what, rank, _ in notes if what == "unfit"}

    def combine(_: Mix, payloads: Mapping[int, Any]) -> Any:
        rank = next(iter(payloads.values()))
        if rank in unfit:
            raise CallError(Reason.BROKEN_MODEL, "Mix: the members did not fit together.")
        return rank

    return combine


def replay(record: RaceRecord) -> Race:
    """Feeds the recorded events, at their recorded times, to a new race. Raises TbmsError for an impossible event."""
    notes = record.notes()
    budget = ReplayedBudget(record.budget, notes)
    combine = recorded_combine(notes)
    race = Race(record.plan(), record.estimates(), budget, combine, arrival=0.0, margin_ms=record.margin_ms)
    for at, what, rank, member in notes:
        if what in _INPUTS:
            _feed(race, record, what, rank, member, at / 1e6)
    return race


def _feed(race: Race, record: RaceRecord, what: str, rank: int, member: int, now: float) -> None:
    if what == "begin":
        race.begin(now)
    elif what == "timer":
        race.timer(now)
    elif what == "gone":
        race.cancelled(now)
    elif not (0 <= rank < len(record.candidates) and 0 <= member < len(record.candidates[rank].models)):
        raise TbmsError(
            f"Race of model {record.model}: event {what!r} is of rank {rank}.{member}, which it does not have."
        )
    elif what == "result":
        race.result(rank, member, rank, now)
    else:
        race.failed(rank, member, what, now, refused=what == "refused")


def reproduces(record: RaceRecord, race: Race) -> bool:
    """Whether a replayed race took every decision that was recorded, at the same microsecond, to the same end."""
    return race.log == record.notes() and outcome_record(race) == record.outcome


def replay_all(records: Iterable[RaceRecord]) -> tuple[RaceSummary, list[int]]:
    """Replays a recording as it was: its summary, and the indices of races that were not reproduced."""
    summary = RaceSummary()
    different = []
    for n, record in enumerate(records):
        race = replay(record)
        summary.add(race)
        if not reproduces(record, race):
            different.append(n)
    return summary, different
