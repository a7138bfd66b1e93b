"""How busy each node is, and whether that is more than its share.

Load is counted in calls in flight. Of a plain call this process hears nothing more once it is routed, so each pick is
an estimate. Where it is known how long such calls take of late, it counts as one call for as long; else as one that
fades with a time constant of `call_seconds`. At a steady rate both are rate x duration, the number in flight (Little's
law). A call whose end will be seen is counted exactly instead, by a lease that its maker takes right after the pick. A
call that was sent without this process, and of which it heard at its end, counts by its own duration.

Nothing here waits for word of an end that may never come: what is not leased goes by itself.

The bound is that of "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016):
no node takes a call that brings it over ceil(factor x average x its share of the weight). The average is that of the
near nodes for near ones, of the far ones for far ones: what this process sends far away says nothing of how busy those
nodes are. Whether calls are sent there for their load is a matter of room, an absolute number.
"""

import math
from collections.abc import Iterable
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any

from mesh.routing.settings import RoutingSettings

_RESCALE_AT = 50.0  # time constants after which the fading counts are brought back to scale (e^50 is far from overflow)


MAX_EXPECTED = 100_000
"""Ends that are expected at once; further calls fade as if nothing were known of them."""


class Excess(IntEnum):
    """What one more call would bring a node over."""

    NOTHING = 0
    ROOM = 1
    """What a zone's nodes take before calls go to other zones; only where there are others."""
    BOUND = 2


class NodeLoad:
    """The calls of one node, changed by `Loads` only; `weight`, `counted` and `far` are set by the router."""

    __slots__ = ("counted", "far", "idle_below", "in_flight", "recent", "unit", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.counted = True  # a dead node neither carries load nor has a share of it
        self.far = False
        self.in_flight = 0
        self.recent = 0.0  # faded picks, times the gain of `Loads`
        self.unit = 1.0  # what one call counts on it, beside one on a node of mean weight
        self.idle_below = 1.0


_Expected = list[Any]
"""Calls whose end is expected: when, a number for equal times, where, and how many: 0 once others count them."""


class _Pool:
    """The near nodes, or the far ones, as a whole; `bound` is for each unit of weight."""

    __slots__ = ("bound", "in_flight", "recent", "weight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.recent = 0.0
        self.weight = 0.0
        self.bound = 0.0

    def recount(self, nodes: list[NodeLoad]) -> None:
        self.in_flight = sum(node.in_flight for node in nodes)
        self.recent = math.fsum(node.recent for node in nodes)
        self.weight = math.fsum(node.weight for node in nodes)


class Loads:
    """The loads of all nodes, in calls in flight, and the bound that follows from their sum.

    Order of calls: `population` first and after each change of nodes or weights, `recount` after a change of `counted`,
    and `tick(now)` before any question, as the answers hold for the time of the last tick. Then `picked` for each call
    routed, followed by `started` and `finished` for one whose end is seen (`InFlight` does both).

    The fading counts are never walked through: instead of letting all of them shrink, a new pick is
    added with a weight that grows by e every `call_seconds` (the gain).
    """

    def __init__(self, settings: RoutingSettings) -> None:
        self._factor = settings.load_factor
        self._floor = settings.load_floor
        self._step = settings.load_step
        self._room = settings.zone_room
        self._call_seconds = settings.call_seconds
        self._nodes: tuple[NodeLoad, ...] = ()
        self._landmark = 0.0
        self._gain = 1.0
        self._near, self._far = _Pool(), _Pool()
        self._now = 0.0
        self._expected: list[_Expected] = []  # a heap
        self._number = 0
        self._last: _Expected | None = None  # of the last pick

    def population(self, nodes: Iterable[NodeLoad]) -> None:
        """These are the nodes from now on; weights may have changed."""
        self._nodes = tuple(nodes)
        if self._nodes:
            mean = math.fsum(node.weight for node in self._nodes) / len(self._nodes)
            for node in self._nodes:
                node.unit = node.weight / mean
                node.idle_below = self._step * node.unit
        self.recount()

    def recount(self) -> None:
        """Sum up anew: the population or what counts has changed."""
        counted = [node for node in self._nodes if node.counted]
        self._near.recount([node for node in counted if not node.far])
        self._far.recount([node for node in counted if node.far])

    def tick(self, now: float) -> None:
        """Let the estimates fade up to `now` (seconds, monotonic; an earlier one than before fades nothing)."""
        self._now = max(self._now, now)
        while self._expected and self._expected[0][0] <= now:
            _, _, node, calls = heappop(self._expected)
            self._over(node, calls)
        age = (now - self._landmark) / self._call_seconds
        if age > _RESCALE_AT:
            fade = math.exp(-age)
            for node in self._nodes:
                node.recent *= fade
            self._landmark = now
            self.recount()
            age = 0.0
        self._gain = math.exp(age) if age > 0.0 else 1.0
        near, far = self._near, self._far
        if near.weight:
            near.bound = self._factor * (near.in_flight + near.recent / self._gain + 1.0) / near.weight
        if far.weight:
            far.bound = self._factor * (far.in_flight + far.recent / self._gain + 1.0) / far.weight

    def of(self, node: NodeLoad) -> float:
        """Calls in flight on that node, known and estimated."""
        return node.in_flight + node.recent / self._gain

    def pressure(self, node: NodeLoad) -> tuple[Excess, int]:
        """What one more call would bring the node over, and its step of load.

        Step 0 is as wide as `load_step` says, so that at low load no call moves the next; beyond, each call counts.
        """
        load = node.in_flight + node.recent / self._gain
        bound = self._far.bound if node.far else self._near.bound
        excess = Excess.NOTHING
        if load + 1.0 > self._floor and load + 1.0 > math.ceil(bound * node.weight):
            excess = Excess.BOUND
        elif self._far.weight and load + 1.0 > self._room * node.unit:
            excess = Excess.ROOM
        return excess, 0 if load < node.idle_below else 1 + int((load - node.idle_below) / node.unit)

    def picked(self, node: NodeLoad, seconds: float | None = None) -> None:
        """A call was routed to that node. `seconds`: how long such calls take of late, None where that is not known."""
        self._last = None
        if seconds is None:
            self._fading(node, 1.0)
        else:
            self._last = self._expect(node, 1, seconds)

    def ended(self, node: NodeLoad, calls: int, seconds: float) -> None:
        """So many calls have ended on that node, of that mean duration, of which nothing was counted before.

        They count as the ones that are there now, which are not heard of before they end. Short ones are told in bulk:
        they count as a mean over `call_seconds`.
        """
        if seconds > self._call_seconds:
            self._expect(node, calls, seconds)
        else:
            self._fading(node, calls * seconds / self._call_seconds)

    def _expect(self, node: NodeLoad, calls: int, seconds: float) -> _Expected | None:
        if len(self._expected) >= MAX_EXPECTED:
            self._fading(node, calls)
            return None
        self._number += 1
        expected: _Expected = [self._now + seconds, self._number, node, calls]
        heappush(self._expected, expected)
        node.in_flight += calls
        if node.counted:
            self._pool(node).in_flight += calls
        return expected

    def _fading(self, node: NodeLoad, calls: float) -> None:
        gained = calls * self._gain
        node.recent += gained
        if node.counted:
            self._pool(node).recent += gained

    def started(self, node: NodeLoad) -> None:
        """The call last routed to that node is one whose end will be seen: known from now on, not estimated."""
        last, self._last = self._last, None
        if last is not None and last[2] is node:
            last[3] = 0  # it is counted already, and from now on as one that does not end by itself
            return
        surplus = min(node.recent, self._gain)
        node.recent -= surplus
        node.in_flight += 1
        if node.counted:
            pool = self._pool(node)
            pool.recent = max(0.0, pool.recent - surplus)
            pool.in_flight += 1

    def finished(self, node: NodeLoad) -> None:
        """A started call has ended, however it ended."""
        self._over(node, 1)

    def _over(self, node: NodeLoad, calls: int) -> None:
        calls = min(calls, node.in_flight)
        node.in_flight -= calls
        if node.counted:
            self._pool(node).in_flight -= calls

    def _pool(self, node: NodeLoad) -> _Pool:
        return self._far if node.far else self._near


class InFlight:
    """The lease of one call on its node: counted there until it is released."""

    __slots__ = ("_loads", "_node")

    def __init__(self, loads: Loads, node: NodeLoad) -> None:
        self._loads = loads
        self._node: NodeLoad | None = node
        loads.started(node)

    def release(self) -> None:
        """The call has ended, however it ended. A second time does nothing."""
        node, self._node = self._node, None
        if node is not None:
            self._loads.finished(node)
