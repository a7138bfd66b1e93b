"""How busy each node is, and whether that is more than its share.

Load is counted in calls in flight. A pick counts as one call that fades with a time constant of `call_seconds`; at a
steady rate that is rate x duration, the number in flight (Little's law). So it stays for a plain call, of which this
process hears nothing more once it is routed. A call whose end will be seen is counted exactly instead, by a lease that
its maker takes right after the pick.

The bound is that of "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016):
no node takes a call that brings it over ceil(factor x average x its share of the weight).
"""

import math
from collections.abc import Iterable

from mesh.routing.settings import RoutingSettings

_RESCALE_AT = 50.0  # time constants after which the fading counts are brought back to scale (e^50 is far from overflow)


class NodeLoad:
    """The calls of one node, changed by `Loads` only; `weight` and `counted` are set by the router."""

    __slots__ = ("counted", "idle_below", "in_flight", "recent", "unit", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.counted = True  # a dead node neither carries load nor has a share of it
        self.in_flight = 0
        self.recent = 0.0  # faded picks, times the gain of `Loads`
        self.unit = 1.0  # what one call counts on it, beside one on a node of mean weight
        self.idle_below = 1.0


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
        self._call_seconds = settings.call_seconds
        self._nodes: tuple[NodeLoad, ...] = ()
        self._landmark = 0.0
        self._gain = 1.0
        self._in_flight = 0
        self._recent = 0.0
        self._weight = 0.0
        self._bound = 0.0  # for each unit of weight

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
        self._in_flight = sum(node.in_flight for node in counted)
        self._recent = math.fsum(node.recent for node in counted)
        self._weight = math.fsum(node.weight for node in counted)

    def tick(self, now: float) -> None:
        """Let the estimates fade up to `now` (seconds, monotonic; an earlier one than before fades nothing)."""
        age = (now - self._landmark) / self._call_seconds
        if age > _RESCALE_AT:
            fade = math.exp(-age)
            for node in self._nodes:
                node.recent *= fade
            self._landmark = now
            self.recount()
            age = 0.0
        self._gain = math.exp(age) if age > 0.0 else 1.0
        if self._weight:
            self._bound = self._factor * (self._in_flight + self._recent / self._gain + 1.0) / self._weight

    def of(self, node: NodeLoad) -> float:
        """Calls in flight on that node, known and estimated."""
        return node.in_flight + node.recent / self._gain

    def pressure(self, node: NodeLoad) -> tuple[bool, int]:
        """Whether one more call would bring the node over its bound, and its step of load.

        Step 0 is as wide as `load_step` says, so that at low load no call moves the next; beyond, each call counts.
        """
        load = node.in_flight + node.recent / self._gain
        over = load + 1.0 > self._floor and load + 1.0 > math.ceil(self._bound * node.weight)
        return over, 0 if load < node.idle_below else 1 + int((load - node.idle_below) / node.unit)

    def picked(self, node: NodeLoad) -> None:
        """A call was routed to that node."""
        node.recent += self._gain
        if node.counted:
            self._recent += self._gain

    def started(self, node: NodeLoad) -> None:
        """The call last routed to that node is one whose end will be seen: known from now on, not estimated."""
        surplus = min(node.recent, self._gain)
        node.recent -= surplus
        node.in_flight += 1
        if node.counted:
            self._recent = max(0.0, self._recent - surplus)
            self._in_flight += 1

    def finished(self, node: NodeLoad) -> None:
        """A started call has ended, however it ended."""
        if node.in_flight == 0:
            return
        node.in_flight -= 1
        if node.counted:
            self._in_flight -= 1


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
