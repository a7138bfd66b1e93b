"""What each race did: one JSON line to the log, and metrics by model and rank."""

import logging
from collections.abc import Iterable

from prometheus_client import Gauge
from prometheus_client.registry import Collector

from ext_proc.admin.documents import RacesStatus
from ext_proc.broker.budget import HedgeBudget
from ext_proc.broker.effects import Answer, Fail, Fallback
from ext_proc.broker.fates import Fate, fates_of
from ext_proc.broker.plan import members
from ext_proc.broker.race import Race
from ext_proc.broker.record import race_json
from ext_proc.processing.decision import Held
from ext_proc.telemetry.logs import JSON
from ext_proc.telemetry.model_labels import ModelLabels
from ext_proc.telemetry.tallies import Spread, Tally

logger = logging.getLogger("tbms.races")

_ANSWERED = frozenset({Fate.WON, Fate.LOST})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RaceReport:
    """Counts races and writes their records. One for the process, called at the end of each race."""

    def __init__(self, budget: HedgeBudget, labels: ModelLabels) -> None:
        self._budget = budget
        self._labels = labels
        self._races = Tally("tbms_races", "Races, by how they ended.", ["outcome", "why"])
        self._in_time = Tally("tbms_races_in_time", "Races by whether an answer was given by the limit.", ["answered"])
        self._in_time.counts.update({("yes",): 0, ("no",): 0})
        self._candidates = Tally(
            "tbms_candidates", "Candidate calls, by what became of them.", ["model", "rank", "fate"]
        )
        self._elapsed = Spread("tbms_race_seconds", "Arrival to answer.", ["model", "rank"], _SECONDS)
        self._slack = Spread("tbms_race_slack_seconds", "Time that was left to the limit.", [], _SECONDS)
        self._level = Gauge("tbms_hedge_budget_seconds", "Work that hedges may still start.", registry=None)
        self._level.set_function(lambda: budget.level_ms / 1000)
        labels.retired += [self._candidates.forget, self._elapsed.forget]

    def collectors(self) -> Iterable[Collector]:
        """The metrics of races, for /metrics."""
        return (self._races, self._in_time, self._candidates, self._elapsed, self._slack, self._level)

    def status(self) -> RacesStatus:
        """What they came to, for /status."""
        return {
            "in_time": {answered: count for (answered,), count in self._in_time.counts.items()},
            "endings": self._races.by(0, 1),
            "candidates": self._candidates.by(1, 2),
            "seconds": self._elapsed.by(1),
            "budget_ms": round(self._budget.level_ms, 3),
        }

    def __call__(self, race: Race, held: Held) -> None:
        """Counts a race that is over, and logs its record."""
        kind, why, rank = _ending(race)
        self._races.counts[kind, why] += 1
        outcome = race.outcome
        if outcome is not None:
            answered = isinstance(outcome, Answer) and outcome.left_ms >= 0
            self._in_time.counts[("yes" if answered else "no",)] += 1
            labels = (self._labels.of(race.plan.model), rank)
            self._elapsed.observe(labels, outcome.elapsed_ms / 1000)
            if held.trace is not None:
                self._elapsed.exemplify(labels, outcome.elapsed_ms / 1000, held.trace.trace_id)
            self._slack.observe((), max(0.0, outcome.left_ms) / 1000)
        for (at, member), call in fates_of(race).items():
            model, fate = members(race.plan.candidates[at])[member].model, call.fate
            self._candidates.counts[self._labels.of(model, fate in _ANSWERED), str(at), fate] += 1
        if logger.isEnabledFor(logging.INFO):
            logger.info("race", extra={JSON: race_json(race, held.head.headers.get("x-request-id"))})


def _ending(race: Race) -> tuple[str, str, str]:
    match race.outcome:
        case Answer(rank=rank, why=why):
            return "answer", str(why), str(rank)
        case Fallback(cause=why):
            return "fallback", str(why), "fallback"
        case Fail(why=why):
            return "fail", str(why), "none"
    return "gone", "", "none"
