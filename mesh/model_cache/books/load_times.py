"""Load times: how long a model is expected to take from its first call to being available."""

from itertools import islice

from mesh.bounded import keep_newest

_WEIGHT = 0.3  # of the newest observation in a moving average
_LIMIT = 100_000  # models


class LoadTimes:
    """Observed times of whole loads (fetch and load, seconds), for each model a moving average that forgets.

    Versions of one model are taken to be alike. A model that was never seen is expected to take what its size takes at
    the average rate, or the average load where its size is not known.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # in the order of their last loads
        self._mean_bytes = 0.0
        self.mean: float | None = None
        """Seconds of an average load; None while nothing was ever observed."""

    def observe(self, model: str, seconds: float, size_bytes: int) -> None:
        """Count in a load that went well."""
        before = self._seconds.get(model, seconds)
        keep_newest(self._seconds, model, before + _WEIGHT * (seconds - before), _LIMIT)
        if self.mean is None:
            self.mean, self._mean_bytes = seconds, float(size_bytes)
        else:
            self.mean += _WEIGHT * (seconds - self.mean)
            self._mean_bytes += _WEIGHT * (size_bytes - self._mean_bytes)

    def expected(self, model: str, size_bytes: int | None = None) -> float | None:
        """The seconds of a whole load of that model; None while nothing was ever observed."""
        known = self._seconds.get(model)
        if known is not None or self.mean is None:
            return known
        if size_bytes is None or not self._mean_bytes:
            return self.mean
        return self.mean * size_bytes / self._mean_bytes

    def __contains__(self, model: str) -> bool:
        """Whether a load of the model was observed."""
        return model in self._seconds

    def latest(self, count: int) -> list[str]:
        """The models whose loads were observed last, at most so many."""
        return list(islice(reversed(self._seconds), count))
