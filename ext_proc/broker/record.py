"""One race as one structured event: written for the log, read again for the replay."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ext_proc.broker.effects import Answer, Fail, Fallback
from ext_proc.broker.log import Note
from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix, Plan, RankedTarget, StaticAnswer, members
from ext_proc.broker.race import Race
from ext_proc.broker.schedule import Estimate
from ext_proc.errors import TbmsError

VERSION = 1
_EVENT = re.compile(r'"event"\s*:\s*"race"')
Finite = Annotated[float, Field(allow_inf_nan=False)]


def race_record(race: Race) -> dict[str, Any]:
    """The event of a race that is over, ready for JSON.

    Times are ms since the call arrived, exact to the microsecond; `arrival` is in seconds of the
    process's monotonic clock. `log` holds every event and decision in order: [ms, what, rank, member].
    Nothing in it comes from the body of the call.
    """
    plan, work, budget = race.plan, race.work_ms(), race.budget
    return {
        "event": "race",
        "v": VERSION,
        "model": plan.model,
        "arrival": race.arrival,
        "limit_ms": plan.limit_ms,
        "margin_ms": race.margin_ms,
        "answer": str(plan.answer),
        "fallback": plan.fallback is not None,
        "candidates": [
            {"mix": str(target.how) if isinstance(target, Mix) else None, "models": _models(target, estimates)}
            for target, estimates in zip(plan.candidates, race.estimates, strict=True)
        ],
        "outcome": outcome_record(race),
        "work": {"primary_ms": work.primary, "hedged_ms": work.hedged, "rescue_ms": work.rescue},
        "budget": {"share": budget.share, "burst_ms": budget.burst_ms, "level_ms": budget.level_ms},
        "log": [(at / 1000, what, rank, member) for at, what, rank, member in race.log],
    }


def _models(target: RankedTarget, estimates: Iterable[Estimate]) -> list[dict[str, Any]]:
    return [
        {
            "model": one.model,
            "version": one.version,
            "label": one.label,
            "weight": one.weight,
            "estimate_ms": estimate.ms,
            "tail_ms": estimate.tail_ms,
            "cold": estimate.cold,
        }
        for one, estimate in zip(members(target), estimates, strict=True)
    ]


def outcome_record(race: Race) -> dict[str, Any]:
    """How a race ended: answer, fallback, fail, or gone where the client left first."""
    match race.outcome:
        case Answer(rank, _, why, made_of, partial, elapsed, left):
            kind = {"kind": "answer", "rank": rank, "why": str(why), "members": list(made_of), "partial": partial}
        case Fallback(_, why, elapsed, left):
            kind = {"kind": "fallback", "why": str(why)}
        case Fail(why, _, elapsed, left):
            kind = {"kind": "fail", "why": str(why)}
        case None:
            return {"kind": "gone"}
    return {**kind, "elapsed_ms": elapsed, "slack_ms": left}


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RecordedModel(_Recorded):
    """One model of a rank, with the estimate that the race used."""

    model: str
    version: str | None = None
    label: str | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0
    estimate_ms: Annotated[Finite, Field(ge=0)]
    tail_ms: Annotated[Finite, Field(ge=0)] = 0.0
    cold: bool = False


class RecordedRank(_Recorded):
    """One rank: a model, or a mix of models."""

    mix: How | None = None
    models: Annotated[tuple[RecordedModel, ...], Field(min_length=1)]


class RecordedBudget(_Recorded):
    """The hedge budget when the race ended."""

    share: Finite
    burst_ms: Finite
    level_ms: Finite


class RaceRecord(_Recorded):
    """A race that was read back. Fields that the log adds around the event are ignored."""

    event: Literal["race"]
    v: Literal[1]
    model: str
    arrival: Finite
    limit_ms: Annotated[Finite, Field(ge=0)]
    margin_ms: Annotated[Finite, Field(ge=0)]
    answer: AnswerMode
    fallback: bool
    candidates: Annotated[tuple[RecordedRank, ...], Field(min_length=1)]
    outcome: dict[str, Any]
    budget: RecordedBudget
    log: tuple[tuple[Finite, str, int, int], ...]

    def plan(self) -> Plan:
        """The plan of the race; the body of a fallback is not recorded."""
        ranks: list[RankedTarget] = []
        for rank in self.candidates:
            models = tuple(Candidate(m.model, m.version, m.label, m.estimate_ms, m.weight) for m in rank.models)
            ranks.append(models[0] if rank.mix is None else Mix(models, rank.mix))
        fallback = StaticAnswer(b"", "") if self.fallback else None
        return Plan(self.model, tuple(ranks), self.limit_ms, self.answer, fallback=fallback)

    def estimates(self) -> list[list[Estimate]]:
        """The estimates that the race used, by rank and member."""
        return [[Estimate(m.estimate_ms, m.cold, m.tail_ms) for m in rank.models] for rank in self.candidates]

    def notes(self) -> list[Note]:
        """The log, in microseconds again."""
        return [(round(ms * 1000), what, rank, member) for ms, what, rank, member in self.log]


def read_records(lines: Iterable[str]) -> Iterator[RaceRecord]:
    """Reads the races of a log of JSON lines; other events are passed over. Raises TbmsError with the line's number."""
    for n, line in enumerate(lines, start=1):
        if _EVENT.search(line):
            try:
                yield RaceRecord.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "the line"
                raise TbmsError(f"Line {n}: {place}: {first['msg']}.") from error
