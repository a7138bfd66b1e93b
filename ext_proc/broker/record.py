"""One race as one structured event: written for the log, read again for the replay."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ext_proc.broker.effects import Answer, Fallback
from ext_proc.broker.log import Note
from ext_proc.broker.plan import AnswerMode, Candidate, How, Mix, Plan, RankedTarget, StaticAnswer, members
from ext_proc.broker.race import Race
from ext_proc.broker.schedule import Estimate
from ext_proc.errors import TbmsError

VERSION = 1
_text = json.encoder.encode_basestring
_EVENT = re.compile(r'"event"\s*:\s*"race"')
Finite = Annotated[float, Field(allow_inf_nan=False)]


def race_json(race: Race, request_id: str | None = None) -> str:
    """The event of a race that is over, as what stands between the braces of a JSON object.

    Times are ms since the call arrived, exact to the microsecond; `arrival` is in seconds of the
    process's monotonic clock. `log` holds every event and decision in order: [ms, what, rank, member].
    Nothing in it comes from the body of the call. `request_id` is Envoy's.
    """
    # Written out by hand: an encoder takes longer to write it than the race to be decided.
    plan, work, budget = race.plan, race.work_ms(), race.budget
    candidates = ", ".join(map(_rank, plan.candidates, race.estimates))
    log = ", ".join([f'[{at / 1000}, "{what}", {rank}, {member}]' for at, what, rank, member in race.log])
    return (
        f'"v": {VERSION}, "model": {_text(plan.model)}, "arrival": {race.arrival}, "limit_ms": {plan.limit_ms}, '
        f'"margin_ms": {race.margin_ms}, "answer": "{plan.answer}", "fallback": {_bool(plan.fallback is not None)}, '
        f'"candidates": [{candidates}], "outcome": {_outcome(race)}, '
        f'"work": {{"primary_ms": {work.primary}, "hedged_ms": {work.hedged}, "rescue_ms": {work.rescue}}}, '
        f'"budget": {{"share": {budget.share}, "burst_ms": {budget.burst_ms}, "level_ms": {budget.level_ms}}}, '
        f'"log": [{log}], "request_id": {_optional(request_id)}'
    )


def _rank(target: RankedTarget, estimates: Iterable[Estimate]) -> str:
    mix = f'"{target.how}"' if isinstance(target, Mix) else "null"
    return f'{{"mix": {mix}, "models": [{", ".join(map(_model, members(target), estimates))}]}}'


def _model(one: Candidate, estimate: Estimate) -> str:
    version, label = _optional(one.version), _optional(one.label)
    return (
        f'{{"model": {_text(one.model)}, "version": {version}, "label": {label}, "weight": {one.weight}, '
        f'"estimate_ms": {estimate.ms}, "tail_ms": {estimate.tail_ms}, "cold": {_bool(estimate.cold)}}}'
    )


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _optional(value: str | None) -> str:
    return "null" if value is None else _text(value)


def _outcome(race: Race) -> str:
    """How it ended: answer, fallback, fail, or gone where the client left first."""
    end = race.outcome
    if end is None:
        return '{"kind": "gone"}'
    if isinstance(end, Answer):
        made_of = f'"members": {list(end.members)}, "partial": {_bool(end.partial)}'
        kind = f'"kind": "answer", "rank": {end.rank}, "why": "{end.why}", {made_of}'
    elif isinstance(end, Fallback):
        kind = f'"kind": "fallback", "why": "{end.cause}"'
    else:
        kind = f'"kind": "fail", "why": "{end.why}"'
    return f'{{{kind}, "elapsed_ms": {end.elapsed_ms}, "slack_ms": {end.left_ms}}}'


def outcome_record(race: Race) -> dict[str, Any]:
    """The same as a record has it once it was read."""
    read: dict[str, Any] = json.loads(_outcome(race))
    return read


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
