"""When calls come: how long from one to the next, and whether that tells when the next one comes."""

from collections.abc import Hashable
from math import inf, sqrt
from typing import Final

from ext_proc.batching.queue import BatchQueue
from ext_proc.batching.waiting import Waiting

_SETTLED: Final = 16  # gaps that were seen before anything is expected
_NEWS: Final = 1 / 16  # weight, in the end, of one more gap
# Deviation over mean of gaps that are regular. Of calls that know nothing of one another it is 1, and over sixteen of
# their gaps hardly ever less than a half.
_REGULAR: Final = 0.25
_PAUSE: Final = 4.0  # times the mean: a gap of more is none between calls that follow one another
_GRAIN: Final = 1 / 16  # of a gap; timers are no finer


class Arrivals:
    """The gaps between calls to a device, for as long as all calls are of one model and key: their mean and variance,
    which forget. With a call of any other kind, or after a pause, it all begins anew.

    Times in seconds.
    """

    __slots__ = ("_gaps", "_key", "_last", "_mean", "_model", "_variance", "rows")

    def __init__(self) -> None:
        self._model = ""
        self._key: Hashable = None
        self._last = -inf
        self._gaps = 0
        self._mean = self._variance = 0.0
        self.rows = 0
        """Those of the last call."""

    def observe(self, call: Waiting, now: float) -> None:
        """A call has come."""
        gap = now - self._last
        self._last = now
        self.rows = call.rows
        if call.key != self._key or call.model != self._model or (self._gaps and gap > _PAUSE * self._mean):
            self._model, self._key = call.model, call.key
            self._gaps = 0
            self._mean = self._variance = 0.0
            return
        self._gaps += 1
        news = max(_NEWS, 1 / self._gaps)
        difference = gap - self._mean
        self._mean += news * difference
        self._variance = (1 - news) * (self._variance + news * difference * difference)

    def tell_next(self, queue: BatchQueue) -> bool:
        """Whether the next call should be one for that queue, and is known to come at about `next`."""
        if self._gaps < _SETTLED or queue.key != self._key or queue.model != self._model:
            return False
        return self._variance <= (_REGULAR * self._mean) ** 2

    @property
    def gap(self) -> float:
        """From one call to the next, on average."""
        return self._mean

    @property
    def next(self) -> float:
        """When the next call should come."""
        return self._last + self._mean

    @property
    def soonest(self) -> float:
        """Before this hardly any next call comes: two deviations sooner."""
        return self._last + self._mean - self._doubt

    @property
    def latest(self) -> float:
        """By when most next calls have come: two deviations later."""
        return self._last + self._mean + self._doubt

    @property
    def _doubt(self) -> float:
        return max(2 * sqrt(self._variance), _GRAIN * self._mean)
