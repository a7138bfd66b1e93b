"""The sessions of one edge: which node each of them sits on, until it ends or is idle for too long."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

Target = TypeVar("Target")

_SWEPT = 64  # idle sessions that one call clears away at most: no call waits for thousands of them


@dataclass(slots=True)
class Sitting(Generic[Target]):
    """Where a session sits: on the node of that id, and with what its first call was made to mean (`target`)."""

    node_id: str
    target: Target
    last_call: float


@dataclass(slots=True)
class SessionCounts:
    """What became of the sessions so far. Every one that was opened is live, or counted in one of the others."""

    opened: int = 0
    ended: int = 0
    """By their last call, or because the same session was begun anew elsewhere."""
    idle: int = 0
    """Without a call for too long."""
    lost: int = 0
    """Their node died, or left."""
    pushed_out: int = 0
    """Without a call for longest when the table was full."""


class Sessions(Generic[Target]):
    """Pure: time comes in as `now`, in seconds of one monotonic clock. Keys are digests, so that entries are of one
    size and `most` of them bound the memory: some 400 bytes each.
    """

    def __init__(self, most: int, idle_seconds: float) -> None:
        self._most = most
        self._idle_seconds = idle_seconds
        self._sittings: OrderedDict[bytes, Sitting[Target]] = OrderedDict()  # the longest without a call first
        self.counts = SessionCounts()

    def __len__(self) -> int:
        return len(self._sittings)

    def find(self, key: bytes, now: float) -> Sitting[Target] | None:
        """Where that session sits. It counts as a call of it."""
        self.expire(now, _SWEPT)
        sitting = self._sittings.get(key)
        if sitting is None:
            return None
        if self._is_idle(sitting, now):
            self._drop(key)
            self.counts.idle += 1
            return None
        sitting.last_call = max(sitting.last_call, now)
        self._sittings.move_to_end(key)
        return sitting

    def look(self, key: bytes, now: float) -> Sitting[Target] | None:
        """As `find`, of a call that is not made: nothing changes."""
        sitting = self._sittings.get(key)
        return None if sitting is None or self._is_idle(sitting, now) else sitting

    def open(self, key: bytes, node_id: str, target: Target, now: float) -> None:
        """A session that is not here begins on that node."""
        if len(self._sittings) >= self._most:
            self._sittings.popitem(last=False)
            self.counts.pushed_out += 1
        self._sittings[key] = Sitting(node_id, target, now)
        self.counts.opened += 1

    def end(self, key: bytes) -> None:
        """The session has had its last call."""
        self.counts.ended += self._drop(key)

    def lose(self, key: bytes) -> None:
        """The session's node is dead or gone, and what it kept of the session with it."""
        self.counts.lost += self._drop(key)

    def expire(self, now: float, most: int) -> None:
        """Forgets sessions that are idle for too long, `most` of them."""
        while most and self._sittings:
            key, sitting = next(iter(self._sittings.items()))
            if not self._is_idle(sitting, now):
                return
            self._drop(key)
            self.counts.idle += 1
            most -= 1

    def _is_idle(self, sitting: Sitting[Target], now: float) -> bool:
        return now - sitting.last_call >= self._idle_seconds

    def _drop(self, key: bytes) -> bool:
        return self._sittings.pop(key, None) is not None
