"""How long a model is expected to take from its first call to being available."""

from mesh.model_cache.lru import Lru
from mesh.model_cache.names import Key

_WEIGHT = 0.3  # of the newest observation
_LIMIT = 100_000


class LoadTimes:
    """Observed times of whole loads (fetch and load, seconds), each a moving average that forgets.

    A model that was never seen is expected to take what its size takes at the average rate, or the average load where
    its size is not known.
    """

    def __init__(self) -> None:
        self._seconds: dict[Key, float] = {}
        self._order: Lru[Key] = Lru()
        self._mean: float | None = None
        self._mean_bytes = 0.0

    def observe(self, key: Key, seconds: float, size_bytes: int) -> None:
        """One load that went well."""
        before = self._seconds.get(key)
        self._seconds[key] = seconds if before is None else before + _WEIGHT * (seconds - before)
        self._order.add(key)
        if len(self._order) > _LIMIT:
            stale = next(iter(self._order))
            self._order.discard(stale)
            del self._seconds[stale]
        if self._mean is None:
            self._mean, self._mean_bytes = seconds, float(size_bytes)
        else:
            self._mean += _WEIGHT * (seconds - self._mean)
            self._mean_bytes += _WEIGHT * (size_bytes - self._mean_bytes)

    def expected(self, key: Key, size_bytes: int | None = None) -> float | None:
        """Seconds; None while nothing was ever observed."""
        known = self._seconds.get(key)
        if known is not None or self._mean is None:
            return known
        if size_bytes is None or not self._mean_bytes:
            return self._mean
        return self._mean * size_bytes / self._mean_bytes
