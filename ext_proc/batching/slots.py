"""How many batches the device is given at once: a fixed number, or one that is found out."""

from typing import Protocol

_TOLERANCE = 1.5  # a batch may take so many times what it usually does before the device counts as full
_LEAST_GRADIENT = 0.5
_SMOOTHING = 0.2
MAX_SLOTS = 1024
"""Most batches at once that are ever found to be right."""


class Slots(Protocol):
    """The number, and what it is learned from."""

    @property
    def count(self) -> int:
        """Batches that run at once; at least 1."""

    def observe(self, running: int, expected: float, seconds: float) -> None:
        """A batch has run beside `running - 1` others, for `seconds` where `expected` were expected."""


class FixedSlots:
    """As many as configured."""

    def __init__(self, count: int) -> None:
        self.count = count

    def observe(self, running: int, expected: float, seconds: float) -> None:
        """Teaches nothing."""


class GradientSlots:
    """Found out by the gradient of the batch time: Netflix's concurrency-limits, Gradient2.

    While batches take what they usually do, there is room for more; once they take longer, they wait for one another
    on the device, and the number shrinks by as much.
    """

    def __init__(self, start: int = 1) -> None:
        self._limit = float(start)

    @property
    def count(self) -> int:
        """See `Slots`."""
        return max(1, int(self._limit))

    def observe(self, running: int, expected: float, seconds: float) -> None:
        """See `Slots`. Says nothing while the device is not nearly full, or while nothing is expected yet."""
        if running * 2 < self._limit or expected <= 0 or seconds <= 0:
            return
        gradient = max(_LEAST_GRADIENT, min(1.0, _TOLERANCE * expected / seconds))
        wanted = self._limit * gradient + (self._limit**0.5 if gradient == 1.0 else 0.0)
        self._limit = min(MAX_SLOTS, max(1.0, self._limit + _SMOOTHING * (wanted - self._limit)))
