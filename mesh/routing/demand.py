"""How often each model was called lately, as far as this process routes its calls."""

import math

from mesh.bounded import Memo

_FADED = 0.05
"""A model whose calls have faded to less than this many is not in demand: one call is, for three windows."""


class _Count:
    __slots__ = ("at", "calls")

    def __init__(self, at: float) -> None:
        self.calls = 0.0
        self.at = at


class Demand:
    """Counts that fade with a time constant of `window` seconds, of the last `models` models at least.

    At a steady rate the count is rate x window. Times are seconds of one monotonic clock.
    """

    def __init__(self, window: float, models: int) -> None:
        self._window = window
        self._counts: Memo[_Count] = Memo(models)

    @property
    def memory(self) -> float:
        """After how many seconds a call counts no more."""
        return -self._window * math.log(_FADED)

    def called(self, model: str, now: float, calls: int = 1) -> None:
        """So many calls for the model were routed."""
        count = self._counts.get(model)
        if count is None:
            count = _Count(now)
            self._counts.put(model, count)
        count.calls = self._faded(count, now) + calls
        count.at = max(count.at, now)

    def rate(self, model: str, now: float) -> float:
        """Calls a second; 0 for a model that is not in demand."""
        count = self._counts.get(model)
        calls = 0.0 if count is None else self._faded(count, now)
        return calls / self._window if calls >= _FADED else 0.0

    def models(self) -> list[str]:
        """Every model that is remembered, in demand or not."""
        return list(self._counts)

    def _faded(self, count: _Count, now: float) -> float:
        return count.calls * math.exp(-max(now - count.at, 0.0) / self._window)
