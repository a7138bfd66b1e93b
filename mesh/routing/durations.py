"""How long calls of each model have kept a node busy lately, as far as somebody saw them end."""

from mesh.bounded import Memo

_SHARE = 1 / 8
"""What a call counts in the mean of its model: the last dozen or two tell."""
LONGEST = 600.0
"""Seconds: no call is expected to take longer, whatever was seen."""


class _Mean:
    __slots__ = ("at", "seconds")

    def __init__(self, seconds: float, at: float) -> None:
        self.seconds = seconds
        self.at = at


class Durations:
    """A running mean for each of the last `models` models at least; what nobody saw for `window` seconds is void.

    So when nobody tells any more, nothing is known soon. Times are seconds of one monotonic clock.
    """

    def __init__(self, window: float, models: int) -> None:
        self._window = window
        self._means: Memo[_Mean] = Memo(models)

    def took(self, model: str, seconds: float, now: float) -> None:
        """A call of the model has ended that took so long."""
        mean = self._means.get(model)
        if mean is None:
            self._means.put(model, _Mean(seconds, now))
        elif now - mean.at > self._window:
            mean.seconds, mean.at = seconds, now
        else:
            mean.seconds += (seconds - mean.seconds) * _SHARE
            mean.at = now

    def of(self, model: str, now: float) -> float | None:
        """How long a call of the model takes of late; None where that is not known."""
        mean = self._means.get(model)
        if mean is None or now - mean.at > self._window:
            return None
        return min(mean.seconds, LONGEST)
