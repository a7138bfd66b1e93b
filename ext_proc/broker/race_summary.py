"""The summary of many races: what was answered, by which rank, and what it cost."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ext_proc.broker.effects import Answer, Fallback
from ext_proc.broker.race import Race


@dataclass(slots=True)
class RaceSummary:
    """Counts over races, and estimated work in ms.

    `gone`: the client left before an answer; these races count in no share. `late`: answered after
    the limit. `hedged_ms` is work started for backups while a better candidate ran, `rescue_ms` work
    started in the place of candidates that had failed.
    """

    races: int = 0
    by_rank: Counter[int] = field(default_factory=Counter)
    partial: int = 0
    late: int = 0
    fallbacks: int = 0
    errors: int = 0
    gone: int = 0
    primary_ms: float = 0.0
    hedged_ms: float = 0.0
    rescue_ms: float = 0.0

    def add(self, race: Race) -> None:
        """Counts one race that is over."""
        self.races += 1
        work = race.work_ms()
        self.primary_ms += work.primary
        self.hedged_ms += work.hedged
        self.rescue_ms += work.rescue
        match race.outcome:
            case Answer(rank=rank, partial=partial, left_ms=left):
                self.by_rank[rank] += 1
                self.partial += partial
                self.late += left < 0
            case Fallback():
                self.fallbacks += 1
            case None:
                self.gone += 1
            case _:
                self.errors += 1

    @property
    def finished(self) -> int:
        """Races whose client stayed to the end."""
        return self.races - self.gone

    @property
    def answered_share(self) -> float:
        """Share answered by a model within the limit; fallbacks and errors are none."""
        return (self.by_rank.total() - self.late) / self.finished if self.finished else 0.0

    @property
    def extra_work(self) -> float:
        """Work of hedges as a share of primary work."""
        return self.hedged_ms / self.primary_ms if self.primary_ms else 0.0

    def accuracy(self, by_rank: Mapping[int, float]) -> float:
        """Mean accuracy over all finished races, given that of each rank; no answer counts as 0."""
        right = sum(by_rank.get(rank, 0.0) * count for rank, count in self.by_rank.items())
        return right / self.finished if self.finished else 0.0
