"""Throughput against lag: what a model's batch times make of a rate of calls on so many GPUs.

Calls have one row each and come evenly spaced. Every GPU has its own queue, calls are dealt out to the queues in turn,
and a GPU that comes free takes all that waits in its queue, `max_rows` at most: it never waits for company. With

- q    calls a second for each GPU, so 1/q from one to the next,
- T(n) the time of a batch of n rows,
- n    rows of a batch: the least number from 1 on for which T(n) * q <= n,

a GPU takes at most `max_rows / T(max_rows)` rows a second, and below that

    lag = T(n)                   where T(n) <= 1/q: each call is answered before the next one comes
    lag = T(n) + (T(n) - g) / 2  otherwise

The second term is the wait: while one batch runs the next one gathers, and its calls come at any moment of T(n) alike.
g is the largest time that goes into both T(n) and 1/q a whole number of times. It counts where a row more or less makes
no difference to a batch's time: batches then keep step with the calls, one of which comes just as a batch leaves.
Elsewhere g is 0.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, inf

from ext_proc.planning.curve import Curve

_STEP = 10_000  # batches and calls are in step if so many of either at most make a whole


@dataclass(frozen=True, slots=True)
class Load:
    """What `gpus` GPUs do under `qps` calls a second, those of all of them together.

    `share` is that of the capacity; over 1 they cannot keep up, and `lag` is infinite. `rows` of a batch and its time,
    `lag` from arrival to answer: on average, in seconds.
    """

    qps: float
    gpus: int
    share: float
    rows: float
    batch_seconds: float
    lag: float

    @property
    def keeps_up(self) -> bool:
        """Whether the queue does not grow for ever."""
        return self.lag < inf


def capacity(curve: Curve, gpus: int = 1) -> float:
    """Rows a second at most, in batches of the largest size."""
    return gpus * curve.max_rows / curve.seconds(curve.max_rows)


def evenly_spaced(curve: Curve, qps: float, gpus: int = 1) -> Load:
    """The formula above; `max_rows` is the largest size of the curve."""
    rate = qps / gpus
    rows = _rows(curve, rate)
    seconds = curve.seconds(rows)
    share = qps / capacity(curve, gpus)
    if seconds * rate > rows * (1 + 1e-9):
        return Load(qps, gpus, share, rows, seconds, inf)
    return Load(qps, gpus, share, rows, seconds, seconds + _wait(curve, rows, rate))


def _rows(curve: Curve, rate: float) -> float:
    """The least n from 1 on with T(n) * rate <= n; the largest size if there is none."""
    if curve.seconds(1) * rate <= 1:
        return 1.0
    low = 1.0
    for point in curve.points:
        if point.rows > 1 and point.seconds * rate <= point.rows:
            return _crossing(curve, rate, low, point.rows)
        low = max(low, point.rows)
    return float(curve.max_rows)


def _crossing(curve: Curve, rate: float, low: float, high: float) -> float:
    """Where T(n) * rate = n between two neighbours of the curve, where T is straight."""
    start, end = curve.seconds(low) * rate - low, curve.seconds(high) * rate - high
    return low + (high - low) * start / (start - end)


def _wait(curve: Curve, rows: float, rate: float) -> float:
    seconds, gap = curve.seconds(rows), 1 / rate
    if seconds <= gap * (1 + 1e-9):
        return 0.0
    fewer, more = max(1, ceil(rows - 1e-9) - 1), min(curve.max_rows, floor(rows + 1e-9) + 1)
    if curve.seconds(fewer) != curve.seconds(more):
        return seconds / 2
    ratio = Fraction(seconds * rate).limit_denominator(_STEP)
    common = gap / ratio.denominator if abs(float(ratio) - seconds * rate) < 1e-9 * float(ratio) else 0.0
    return (seconds - common) / 2
