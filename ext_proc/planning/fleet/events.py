"""What is to happen, in the order of time."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Any

Happens = Callable[[Any, float], None]
"""Is told what happens, and when."""


class Events:
    """A queue. What is to happen at the same time happens in the order in which it was said."""

    __slots__ = ("_heap", "_number", "next")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Happens, Any]] = []
        self._number = 0
        self.next = inf
        """When something happens next, in seconds."""

    def at(self, when: float, happens: Happens, what: Any = None) -> None:
        """`happens(what, when)` at that time."""
        self._number += 1
        heappush(self._heap, (when, self._number, happens, what))
        if when < self.next:
            self.next = when

    def run(self, until: float = inf) -> None:
        """All that happens until then, that moment included."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, happens, what = heappop(heap)
            happens(what, when)
        self.next = heap[0][0] if heap else inf
