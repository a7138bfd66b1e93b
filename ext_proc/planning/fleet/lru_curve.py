"""The hit share of one least-recently-used cache of any number of places, all sizes in one pass.

By stack distances (Mattson, Gecsei, Slutz and Traiger, 1970): a call hits in every cache that has more places than
other models were called since the last call of its own.
"""

from bisect import bisect_left
from collections.abc import Hashable
from itertools import accumulate


class LruCurve:
    """Counts calls; `share` says of any size which share of them would have been hits."""

    def __init__(self) -> None:
        self._last: dict[Hashable, int] = {}
        self._order: list[int] = []  # of each model the number of its last call, ascending
        self._distances: list[int] = []  # how many calls had so many other models since
        self._calls = 0
        self._number = 0

    def add(self, model: Hashable, calls: int = 1, counts: bool = True) -> None:
        """So many calls for that model, one after the other. Those that do not count fill the caches all the same."""
        self._number += 1
        last = self._last.get(model)
        if last is not None:
            place = bisect_left(self._order, last)
            if counts:
                self._count(len(self._order) - 1 - place, 1)
            del self._order[place]
        if counts and calls > 1:
            self._count(0, calls - 1)
        self._order.append(self._number)
        self._last[model] = self._number
        self._calls += calls if counts else 0

    def share(self, slots: int) -> float:
        """Hits / calls of a cache of so many places that was empty at first. 0 without calls."""
        return sum(self._distances[:slots]) / self._calls if self._calls else 0.0

    def points(self) -> list[tuple[int, float]]:
        """(slots, share) for every size up to the one from which on more places make no difference."""
        hits = accumulate(self._distances, initial=0)
        return [(slots, count / self._calls) for slots, count in enumerate(hits)] if self._calls else []

    @property
    def models(self) -> int:
        """Different ones."""
        return len(self._order)

    def _count(self, distance: int, calls: int) -> None:
        missing = distance + 1 - len(self._distances)
        if missing > 0:
            self._distances += [0] * missing
        self._distances[distance] += calls
