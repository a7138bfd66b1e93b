"""What the deadline benchmark plays: when calls come, and how long each model takes for each of them. Seeded."""

import math
import random
from dataclasses import dataclass

MEDIAN_MS = 20.0
LIMIT_MS = 3 * MEDIAN_MS
BACKUP_MS = 10.0
SLOW_MS = 20 * MEDIAN_MS
# Both models scatter around their median: sigma of a log-normal distribution.
_SCATTER = 0.1


@dataclass(frozen=True)
class Case:
    """A tail of the primary: shares of calls that are slow or never answered.

    `outage` is the share of the trace, in one piece in its middle, in which no call to the primary is answered.
    """

    name: str
    slow: float
    hang: float = 0.0
    outage: float = 0.0


CASES = (
    Case("one_percent", slow=0.01),
    Case("five_percent", slow=0.05),
    Case("mixed", slow=0.05, hang=0.01, outage=0.05),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call: seconds after the start of the trace, and the ms that each model takes (infinite: it hangs)."""

    at: float
    primary_ms: float
    backup_ms: float


def trace(case: Case, rate: float, seconds: float, seed: int) -> tuple[Call, ...]:
    """Calls that arrive at random, `rate` a second on average (Poisson), whether earlier ones are answered or not."""
    dice = random.Random(f"{seed} {case.name}")
    dark = range(int(500 * (1 - case.outage)), int(500 * (1 + case.outage)))
    calls, at = [], dice.expovariate(rate)
    while at < seconds:
        fate, primary, backup = dice.random(), _around(MEDIAN_MS, dice), _around(BACKUP_MS, dice)
        if fate < case.hang or int(1000 * at / seconds) in dark:
            primary = math.inf
        elif fate < case.hang + case.slow:
            primary = SLOW_MS
        calls.append(Call(at, primary, backup))
        at += dice.expovariate(rate)
    return tuple(calls)


def _around(median: float, dice: random.Random) -> float:
    return median * dice.lognormvariate(0.0, _SCATTER)
