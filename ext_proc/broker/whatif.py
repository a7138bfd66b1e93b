"""What-if: the outcome of recorded races under another limit, answer mode, estimates or budget."""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ext_proc.broker.budget import TokenBucket
from ext_proc.broker.effects import Effect, Start
from ext_proc.broker.model_entry import fraction
from ext_proc.broker.plan import AnswerMode, CallKey, Plan
from ext_proc.broker.race import Race
from ext_proc.broker.race_summary import RaceSummary
from ext_proc.broker.record import RaceRecord
from ext_proc.broker.replay import recorded_combine
from ext_proc.broker.schedule import Estimate, micros

_ENDS = ("result", "failed", "refused")


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What to change; None leaves what was recorded.

    `estimates_ms` by `Candidate.title` (`bert`, `bert;version=3`). `hedge_share` and `hedge_burst_ms` as in the
    `broker:` section; the budget starts as full as it was at the first recorded race.
    """

    limit_ms: float | None = None
    margin_ms: float | None = None
    answer: AnswerMode | None = None
    estimates_ms: Mapping[str, float] = field(default_factory=dict)
    hedge_share: float | None = None
    hedge_burst_ms: float | None = None
    backups: bool = True


@dataclass(frozen=True, slots=True)
class _Run:
    """How one call of a candidate goes: what ends it, and when after its start (None: never)."""

    end: str
    took_us: int | None


class Times:
    """How long each call takes under the changed rules: as it was recorded, where its end was seen.

    A call that was cancelled or never made takes the time of a finished call to the same model in the
    recording, longer than it was seen to run; which one is drawn by a hash, so that the same question
    gets the same answer. A model of which no call has finished takes its estimate. A call that was
    seen to run longer than all that never ends.
    """

    def __init__(self, records: Sequence[RaceRecord]) -> None:
        self._seen: list[dict[CallKey, _Run]] = []
        self._cut: list[dict[CallKey, int]] = []
        self._finished: dict[str, list[_Run]] = defaultdict(list)
        for record in records:
            seen: dict[CallKey, _Run] = {}
            started: dict[CallKey, int] = {}
            cut: dict[CallKey, int] = {}
            titles = _titles(record.plan())
            for at, what, rank, member in record.notes():
                call = (rank, member)
                if what == "start":
                    started[call] = at
                elif what in _ENDS and call in started:
                    seen[call] = _Run(what, at - started[call])
                    self._finished[titles[call]].append(seen[call])
                elif what == "cancel" and call in started:
                    cut[call] = at - started[call]
            self._seen.append(seen)
            self._cut.append(cut)

    def of(self, race: int, call: CallKey, title: str, estimate: Estimate) -> _Run:
        """How one call of the race at place `race` of the recording goes; `estimate` is what the race expects of it."""
        if run := self._seen[race].get(call):
            return run
        least = self._cut[race].get(call, -1)
        finished = self._finished.get(title) or [_Run("result", micros(estimate.ms))]
        others = [run for run in finished if run.took_us is not None and run.took_us > least]
        if not others:
            return _Run("never", None)
        return others[int(fraction(title, f"{race} {call}") * len(others))]


def what_if(records: Sequence[RaceRecord], change: WhatIf) -> RaceSummary:
    """Plays all races against one budget, in the order of time, under the changed rules."""
    return _Simulation(records, change).run()


class _Simulation:
    """All races of a recording on one virtual clock, in whole microseconds of the recording's clock."""

    def __init__(self, records: Sequence[RaceRecord], change: WhatIf) -> None:
        self._times = Times(records)
        self._queue: list[tuple[int, int, int, str, CallKey]] = []
        self._order = 0
        self._races: list[Race] = []
        self._titles: list[dict[CallKey, str]] = []
        budget = _budget(records, change)
        for n, record in enumerate(records):
            plan, estimates = _changed(record, change)
            margin = record.margin_ms if change.margin_ms is None else change.margin_ms
            arrival = round(record.arrival * 1e6)
            combine = recorded_combine(record.notes())
            self._races.append(Race(plan, estimates, budget, combine, arrival=arrival / 1e6, margin_ms=margin))
            self._titles.append(_titles(plan))
            for at, what, _, _ in record.notes():
                if what in ("begin", "gone"):
                    self._push(arrival + at, n, what)

    def run(self) -> RaceSummary:
        while self._queue:
            at, _, n, what, call = heapq.heappop(self._queue)
            self._absorb(n, at, self._happens(self._races[n], what, call, at / 1e6))
        summary = RaceSummary()
        for race in self._races:
            summary.add(race)
        return summary

    def _happens(self, race: Race, what: str, call: CallKey, now: float) -> list[Effect]:
        match what:
            case "begin":
                return race.begin(now)
            case "gone":
                return race.cancelled(now)
            case "timer":
                return race.timer(now)
            case "result":
                return race.result(*call, call[0], now)
            case _:
                return race.failed(*call, what, now, refused=what == "refused")

    def _absorb(self, n: int, at: int, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Start):
                call = (effect.rank, effect.member)
                estimate = self._races[n].estimates[call[0]][call[1]]
                run = self._times.of(n, call, self._titles[n][call], estimate)
                if run.took_us is not None:
                    self._push(at + run.took_us, n, run.end, call)
        wake = self._races[n].wake_up
        if wake is not None:
            self._push(round(wake * 1e6), n, "timer")

    def _push(self, at: int, n: int, what: str, call: CallKey = (-1, -1)) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at, self._order, n, what, call))


def _titles(plan: Plan) -> dict[CallKey, str]:
    return {call: candidate.title for call, candidate in plan.calls()}


def _changed(record: RaceRecord, change: WhatIf) -> tuple[Plan, list[list[Estimate]]]:
    plan, estimates = record.plan(), record.estimates()
    titles = _titles(plan)
    for call, title in titles.items():
        if title in change.estimates_ms:
            estimates[call[0]][call[1]] = Estimate(change.estimates_ms[title])
    if not change.backups:
        plan, estimates = replace(plan, candidates=plan.candidates[:1]), estimates[:1]
    limit = plan.limit_ms if change.limit_ms is None else change.limit_ms
    return replace(plan, limit_ms=limit, answer=change.answer or plan.answer), estimates


def _budget(records: Sequence[RaceRecord], change: WhatIf) -> TokenBucket:
    if not records:
        return TokenBucket(0.0, 1.0)
    first = min(records, key=lambda record: record.arrival).budget
    share = first.share if change.hedge_share is None else change.hedge_share
    burst = first.burst_ms if change.hedge_burst_ms is None else change.hedge_burst_ms
    return TokenBucket(share, burst, min(first.level_ms, burst))
