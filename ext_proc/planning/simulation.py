"""Calls in virtual time: the scheduler itself, before devices whose batches take what a curve says.

Nothing is modelled but the device and the arrivals, so what is planned is what the scheduler does.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from math import ceil, inf

from ext_proc.batching.scheduler import Scheduler
from ext_proc.batching.settings import BatchingSettings
from ext_proc.batching.waiting import Batch, Effect, Send, Waiting
from ext_proc.planning.curve import Curve

Exponential = Callable[[float], float]
"""Draws seconds from one event to the next, of so many a second on average: `random.Random(seed).expovariate`."""

_TICK = 9  # digits of a second: what is nearer in time happens at once, calls before ends of batches


@dataclass(frozen=True, slots=True)
class Lags:
    """From a call's arrival to its answer, in seconds; `rows` of a batch on average. Sorted."""

    lags: Sequence[float]
    rows: float

    @property
    def mean(self) -> float:
        """Of all calls."""
        return sum(self.lags) / len(self.lags)

    def percentile(self, share: float) -> float:
        """The lag that this share of the calls keeps: the nearest rank."""
        return self.lags[max(0, ceil(share * len(self.lags)) - 1)]


def evenly(qps: float) -> Iterator[float]:
    """Arrivals at equal distances, in seconds."""
    number = 0
    while True:
        yield number / qps
        number += 1


def poisson(qps: float, exponential: Exponential) -> Iterator[float]:
    """Arrivals that know nothing of one another."""
    now = 0.0
    while True:
        now += exponential(qps)
        yield now


def simulate(
    settings: BatchingSettings, model: str, curve: Curve, arrivals: Iterator[float], calls: int, warm_up: int = 0
) -> Lags:
    """Calls of one row each, before a device of `settings.slots` slots, all of which have no limit and may share.

    The first `warm_up` calls do not count.
    """
    return _Run(settings, curve).lags(model, arrivals, calls, warm_up)


class _Run:
    def __init__(self, settings: BatchingSettings, curve: Curve) -> None:
        # A curve's times have the way to the device and back in them: handed over ahead, nothing would be saved here.
        self._scheduler = Scheduler(settings.model_copy(update={"ahead": 0}))
        self._free = settings.slots or 1
        self._curve = curve
        self._handed = deque[Batch]()  # batches that wait at the device
        self._ends: list[tuple[float, int]] = []
        self._batches: dict[int, Batch] = {}
        self._ended: dict[int, float] = {}  # by call
        self._sizes: list[int] = []

    def lags(self, model: str, arrivals: Iterator[float], calls: int, warm_up: int) -> Lags:
        times = list(islice(arrivals, calls + warm_up))
        coming = iter(enumerate(times))
        upcoming = next(coming, None)
        while upcoming is not None or self._ends:
            end = self._ends[0][0] if self._ends else inf
            if upcoming is not None and round(upcoming[1] - end, _TICK) <= 0:
                number, now = upcoming
                call = Waiting(model, "", 1, 1, now, payload=number)
                self._perform(self._scheduler.add(call, now), now)
                upcoming = next(coming, None)
            else:
                self._end(*heappop(self._ends))
        sizes = self._sizes[len(self._sizes) * warm_up // len(times) :]
        counted = sorted(self._ended[number] - times[number] for number in range(warm_up, len(times)))
        return Lags(counted, sum(sizes) / len(sizes))

    def _end(self, now: float, number: int) -> None:
        batch = self._batches.pop(number)
        for member in batch.members:
            assert isinstance(member.payload, int)
            self._ended[member.payload] = now
        self._free += 1
        if self._handed:
            self._start(self._handed.popleft(), now)
        self._perform(self._scheduler.finished(number, now, answered=True), now)

    def _perform(self, effects: Sequence[Effect], now: float) -> None:
        for effect in effects:
            assert isinstance(effect, Send), "calls without a limit are never late, and the queue holds all"
            if self._free:
                self._start(effect.batch, now)
            else:
                self._handed.append(effect.batch)

    def _start(self, batch: Batch, now: float) -> None:
        self._free -= 1
        self._batches[batch.number] = batch
        self._sizes.append(batch.rows)
        heappush(self._ends, (now + self._curve.seconds(batch.rows), batch.number))
