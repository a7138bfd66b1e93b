"""The hedge budget: how much extra work backups may cause while a better candidate still runs."""

from typing import Protocol


class HedgeBudget(Protocol):
    """What a race asks of a budget. Every amount is estimated work in ms."""

    @property
    def share(self) -> float:
        """Work allowed for hedges, as a share of primary work."""

    @property
    def burst_ms(self) -> float:
        """The most that can be saved up."""

    @property
    def level_ms(self) -> float:
        """What is left; below zero after a debt."""

    def earn(self, work_ms: float) -> None:
        """A primary of `work_ms` has been started."""

    def take(self, cost_ms: float) -> bool:
        """Pays for a hedge, or refuses it."""

    def owe(self, cost_ms: float) -> None:
        """Pays for a hedge that is started whatever the budget says."""


class TokenBucket:
    """A token bucket in ms of work. Primary work refills it by `share`; it starts full.

    A hedge dearer than the whole bucket is paid by a full one, else it could never start. What is
    owed for exempt hedges is paid back by later refills, up to one bucket: a long outage of a
    primary must not forbid hedges for long after it.
    """

    __slots__ = ("_level", "burst_ms", "share")

    def __init__(self, share: float, burst_ms: float, level_ms: float | None = None) -> None:
        self.share = share
        self.burst_ms = burst_ms
        self._level = burst_ms if level_ms is None else level_ms

    @property
    def level_ms(self) -> float:
        """What is left; below zero after a debt."""
        return self._level

    def earn(self, work_ms: float) -> None:
        """Refills by the share of a primary's work."""
        self._level = min(self.burst_ms, self._level + self.share * work_ms)

    def take(self, cost_ms: float) -> bool:
        """Pays for a hedge where the bucket holds its cost."""
        if self.share == 0 or self._level < min(cost_ms, self.burst_ms):
            return False
        self._level -= cost_ms
        return True

    def owe(self, cost_ms: float) -> None:
        """Pays for an exempt hedge, into debt."""
        self._level = max(self._level - cost_ms, min(self._level, -self.burst_ms))
