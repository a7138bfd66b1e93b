"""How long a batch takes: a line over its rows, fitted to the batches that have run.

Least squares with exponential forgetting (recursive weighted least squares; Ljung, System Identification, 11.2): the
model, its neighbours on the device and the clock of the device change, and old batches say little of the next one.
"""

from math import sqrt
from typing import Final

_KEPT: Final = 0.97  # weight that an observation keeps when the next one comes: about the last 33 count
_SETTLED: Final = 8  # from so many observations on an outlier is cut to what could be believed
_OUTLIER: Final = 4.0  # deviations


class BatchTimes:
    """The fit of one model. Times are in seconds. Before the first observation everything is expected to take none."""

    __slots__ = ("_constant", "_n", "_slope", "_variance", "_w", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._n = 0
        self._w = self._x = self._y = self._xx = self._xy = 0.0
        self._constant = self._slope = self._variance = 0.0

    @property
    def observations(self) -> int:
        """Batches that were taken in."""
        return self._n

    @property
    def constant(self) -> float:
        """What a batch costs whatever is in it."""
        return self._constant

    @property
    def slope(self) -> float:
        """What each row adds."""
        return self._slope

    def expected(self, rows: int) -> float:
        """The mean time of a batch of so many rows."""
        return self._constant + self._slope * rows

    def cautious(self, rows: int) -> float:
        """A time that most batches of so many rows keep: two deviations over the mean."""
        return self._constant + self._slope * rows + 2 * sqrt(self._variance)

    def believed(self, rows: int, seconds: float) -> float:
        """The time of a batch, or as much of it as can be believed.

        One stall is no new regime; if it is one, the deviation grows until it is believed. Nor is what follows one: a
        reply that was late leaves too little time until the next.
        """
        if self._n < _SETTLED:
            return seconds
        expected = self.expected(rows)
        most = _OUTLIER * sqrt(self._variance) + 0.1 * expected
        return min(max(seconds, expected - most), expected + most)

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long on the device, its wait for others before it left out."""
        seconds = self.believed(rows, seconds)
        self._n += 1
        self._w = self._w * _KEPT + 1
        self._x = self._x * _KEPT + rows
        self._y = self._y * _KEPT + seconds
        self._xx = self._xx * _KEPT + rows * rows
        self._xy = self._xy * _KEPT + rows * seconds
        self._fit()
        residual = seconds - self.expected(rows)
        self._variance += (residual * residual - self._variance) / min(self._n, 1 / (1 - _KEPT))

    def shift(self, seconds: float) -> None:
        """All batches that were taken in took so much longer than was said then."""
        self._y += seconds * self._w
        self._xy += seconds * self._x
        if self._n:
            self._fit()

    def _fit(self) -> None:
        """The line: neither its start nor its slope is below 0, which no device can do."""
        spread = self._w * self._xx - self._x * self._x
        slope = 0.0
        if spread > 1e-9 * self._w * self._xx:
            slope = max(0.0, (self._w * self._xy - self._x * self._y) / spread)
        constant = (self._y - slope * self._x) / self._w
        if constant < 0:
            constant, slope = 0.0, max(0.0, self._xy / self._xx)
        self._constant, self._slope = constant, slope
