"""One node's cache in virtual time: its real books, and around them what its shell does; loads take their time.

As on a real node, whoever asks for a model that is on its way joins its load; room is promised before it is free; a
victim goes when its last call has ended; and calls that wait get the model in the step in which it is there. Of files,
of fetches apart from loads, and of loads that fail nothing is known here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ext_proc.planning.fleet.device import Device
from ext_proc.planning.fleet.events import Events
from mesh.model_cache.books.eviction import Evict, Rules, TooLarge
from mesh.model_cache.books.ledger import Ledger, Newcomer
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState, Room
from mesh.model_cache.feed import residency_of
from mesh.residency.state import Residency


@dataclass(frozen=True, slots=True)
class CacheRules:
    """Settings of `node.cache` that edges are not told; the defaults are those of the settings.

    `reserve` is in places.
    """

    min_age_seconds: float = 10.0
    pinned: frozenset[str] = frozenset()
    reserve: int = 0
    room_seconds: float = 2.0


class Waiter(Protocol):
    """A call, or somebody else, that waits for a model."""

    def granted(self, entry: CacheEntry, now: float) -> None:
        """It is there; `entry` counts one more call in flight, which `CacheNode.release` ends."""

    def refused(self, now: float) -> None:
        """There is no room for it."""


@dataclass(slots=True, eq=False)
class _Load:
    key: Key
    deadline: float
    """Until when it waits for room, once it does."""
    waiters: dict[Waiter, None] = field(default_factory=dict)
    entry: CacheEntry | None = None
    """Once room is promised to it."""
    timer: float = -math.inf
    """When it asks for room again."""
    barred: bool = False
    """By a model that came a moment ago: until then only one that comes or goes is a reason to ask again."""


Tell = Callable[[str, Residency, float], None]
"""Is told of each model that has come into another state, and when."""


class CacheNode:
    """See the module. `slots` places (infinite: no limit); `load_seconds` is how long a load takes, by key."""

    def __init__(
        self, slots: float, rules: CacheRules, load_seconds: Callable[[Key], float], events: Events, tell: Tell
    ) -> None:
        self._slots = slots
        self._reserve = Room(min(rules.reserve, max(slots - 1, 0)))
        capacity = Room(slots, math.inf, math.inf)
        self._ledger = Ledger(Rules(capacity, rules.min_age_seconds, rules.pinned), self._reserve)
        self._room_seconds = rules.room_seconds
        self._load_seconds = load_seconds
        self._events = events
        self._tell = tell
        self._loads: dict[Key, _Load] = {}
        self._asking: dict[_Load, None] = {}
        """Loads without a promise of room, and those with one that is not free yet."""
        self.available = self._ledger.available
        """See `Ledger.available`."""
        self.acquire = self._ledger.acquire
        """See `Ledger.acquire`."""
        self.loads = 0
        """Begun since the start."""
        self.device: Device | None = None
        """Where calls go in batches."""

    def adopt(self, key: Key, now: float) -> bool:
        """The model is there from the beginning; False where there is no place for it."""
        if self.free < 1:
            return False
        entry = self._ledger.open(key, now)
        if entry.state is ModelState.ABSENT:
            entry.begun = True
            entry.move(ModelState.AVAILABLE, -math.inf)
        return True

    @property
    def free(self) -> float:
        """Places that are neither in use nor promised."""
        return self._slots - self._ledger.promised().models

    def ask(self, key: Key, waiter: Waiter, now: float) -> None:
        """The model is wanted, and not available; `waiter` is told once."""
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = _Load(key, now + self._room_seconds)
            load.waiters[waiter] = None
            self._go_on(load, now)
        else:
            load.waiters[waiter] = None

    def leave(self, key: Key, waiter: Waiter) -> None:
        """It waits no longer; the load goes on."""
        load = self._loads.get(key)
        if load is not None:
            load.waiters.pop(waiter, None)

    def release(self, entry: CacheEntry, now: float) -> None:
        """A call has ended."""
        if self._ledger.release(entry):
            going = entry.state is ModelState.DRAINING
            if going:
                self._gone(entry, now)
            if self._asking:
                self._changed(now, only_idle=not going)

    def _go_on(self, load: _Load, now: float) -> None:
        """As far as there is room: first a promise of it, then the load."""
        if load.entry is None and not self._admitted(load, now):
            return
        entry = load.entry
        assert entry is not None
        if not self._ledger.may_begin(entry):
            self._asking[load] = None
            return
        self._asking.pop(load, None)
        entry.begun = True
        entry.move(ModelState.LOADING, now)
        self.loads += 1
        self._events.at(now + self._load_seconds(load.key), self._loaded, load)

    def _admitted(self, load: _Load, now: float) -> bool:
        entry = self._ledger.open(load.key, now)
        until: float | None = None
        if entry.state is not ModelState.DRAINING:
            verdict = self._ledger.admit([Newcomer(entry, 0, 0)], (), (), now)
            if isinstance(verdict, Evict):
                load.entry = entry
                self._told(entry, now)
                self._evict(verdict, now)
                return True
            if isinstance(verdict, TooLarge) or now >= load.deadline:
                self._refuse(load, now)
                return False
            until = verdict.until
        self._asking[load] = None
        if entry.state is not ModelState.DRAINING:
            again = load.deadline if until is None else min(until, load.deadline)
            load.barred = until is not None
            if load.timer <= now or again < load.timer:
                load.timer = again
                self._events.at(again, self._look_again, load)
        return False

    def _look_again(self, load: _Load, now: float) -> None:
        if load in self._asking:
            self._go_on(load, now)

    def _refuse(self, load: _Load, now: float) -> None:
        self._asking.pop(load, None)
        del self._loads[load.key]
        entry = self._ledger.entry(load.key)
        if entry is not None:
            self._ledger.forget_if_empty(entry)
        for waiter in load.waiters:
            waiter.refused(now)

    def _loaded(self, load: _Load, now: float) -> None:
        entry = load.entry
        assert entry is not None
        del self._loads[load.key]
        entry.move(ModelState.AVAILABLE, now)
        for waiter in load.waiters:
            self._ledger.acquire(entry, now)
            waiter.granted(entry, now)
        self._told(entry, now)
        if self._reserve.models:
            self._evict(self._ledger.make_reserve(now), now)
        self._changed(now)

    def _evict(self, evict: Evict, now: float) -> None:
        for key in evict.unload:
            entry = self._ledger.entry(key)
            assert entry is not None
            if entry.in_flight:
                self._told(entry, now)
            else:
                self._gone(entry, now)

    def _gone(self, entry: CacheEntry, now: float) -> None:
        entry.begun = entry.leaving = False
        entry.move(ModelState.ABSENT, now)
        self._ledger.forget_if_empty(entry)
        self._told(entry, now)

    def _changed(self, now: float, only_idle: bool = False) -> None:
        """Whoever asks for room looks again; where a model has only become idle, not if a younger one bars the way."""
        for load in tuple(self._asking):
            if load in self._asking and not (only_idle and load.barred and load.entry is None):
                self._go_on(load, now)

    def _told(self, entry: CacheEntry, now: float) -> None:
        model = entry.key.model
        self._tell(model, residency_of(self._ledger.relations.versions(model)), now)
