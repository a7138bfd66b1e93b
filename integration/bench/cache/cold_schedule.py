"""When hits and cold calls are due on the node of the cache benchmark, and what is made of the answers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from integration.bench.deadline.figures import quantile
from integration.bench.deadline.open_loop import Sample
from integration.stack.process import ProcessError

_SEED = 20_240_917


@dataclass(frozen=True)
class Pair:
    """Neighbouring rounds, in ms: hits alone, hits beside cold calls, and those cold calls."""

    quiet: Sequence[float]
    beside: Sequence[float]
    cold: Sequence[float]


@dataclass(frozen=True)
class Schedule:
    """`pairs` of rounds of `seconds` each, one with `cold_rate` cold calls a second and one without, after a warm-up.

    In both there are `rate` hits a second. Rounds are short and many: what else runs on a machine comes and goes, and
    a median over the pairs does not see what hits the smaller part of them.
    """

    pairs: int = 28
    seconds: float = 2.0
    rate: float = 100.0
    # What a node of the fleet in virtual time loads.
    cold_rate: float = 2.0
    warm_up: float = 2.0

    def starts(self, pair: int) -> tuple[float, float]:
        """When a pair's rounds begin, in seconds: the one with cold loads, and the one without.

        Each comes first in turn, so that a machine that grows slower favours neither.
        """
        first = self.warm_up + 2 * pair * self.seconds
        second = first + self.seconds
        return (second, first) if pair % 2 == 0 else (first, second)

    def hits(self) -> list[float]:
        """When hits are due, in seconds: at random times (Poisson), the same in both rounds of a pair."""
        dice = Random(_SEED)

        def at_random(seconds: float) -> list[float]:
            return sorted(dice.uniform(0.0, seconds) for _ in range(round(self.rate * seconds)))

        due = at_random(self.warm_up)
        for pair in range(self.pairs):
            times = at_random(self.seconds)
            due += [start + time for start in sorted(self.starts(pair)) for time in times]
        return due

    def cold_calls(self, pair: int) -> list[float]:
        """When a pair's cold calls are due; none so late that it would reach into the next round if all is well."""
        start, _ = self.starts(pair)
        return [start + number / self.cold_rate for number in range(max(1, int((self.seconds - 0.5) * self.cold_rate)))]

    def cut(self, samples: Sequence[Sample], cold: Sequence[Sequence[float]]) -> list[Pair]:
        """The samples of `hits()` by rounds; `cold` is what the cold calls of each pair took, in ms.

        Raises ProcessError if a hit was not answered: there would be nothing to compare.
        """
        lost = sum(not sample.answered for sample in samples)
        if lost:
            raise ProcessError(f"{lost} of {len(samples)} hits had no answer.")

        def of(start: float) -> list[float]:
            first = round(start * self.rate)
            return [sample.ms for sample in samples[first : first + round(self.seconds * self.rate)]]

        rounds = map(self.starts, range(self.pairs))
        return [Pair(of(quiet), of(beside), calls) for (beside, quiet), calls in zip(rounds, cold, strict=True)]


def slowdown(pairs: Sequence[Pair], share: float) -> float:
    """A quantile of the hits beside cold loads / the same without them: the median of the ratios of the pairs."""
    return statistics.median(quantile(pair.beside, share) / quantile(pair.quiet, share) for pair in pairs)
