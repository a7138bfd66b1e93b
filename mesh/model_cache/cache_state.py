"""The state of one node's cache: its books, with the clock, the files and the announcements that go with them."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any

from mesh.model_cache.books.back_off import BackOff
from mesh.model_cache.books.eviction import Evict, Rules, Verdict
from mesh.model_cache.books.ledger import Ledger, Newcomer
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import Need
from mesh.model_cache.books.states import CacheEntry, ModelState, Room
from mesh.model_cache.change_signal import ChangeSignal
from mesh.model_cache.errors import Busy
from mesh.model_cache.feed import Feed, residency_of
from mesh.model_cache.files import Files
from mesh.model_cache.lease import Held, Lease
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores.store import Remote

logger = logging.getLogger(__name__)

Offload = Callable[..., Awaitable[Any]]
"""Runs a blocking function elsewhere: `asyncio.to_thread`, or something of its kind."""


class CacheState:
    """What the parts of the cache share. The books are changed through it alone, so that edges are told of each change.

    Everything here belongs to one event loop. `clock` is monotonic, in seconds.
    """

    def __init__(self, settings: CacheSettings, clock: Callable[[], float], offload: Offload) -> None:
        self.settings = settings
        self.clock = clock
        self.offload = offload
        self.files = Files(settings.folder)
        self.back_off: BackOff[Key] = BackOff(settings.back_off.first_seconds, settings.back_off.most_seconds)
        """Versions that could not be loaded lately."""
        self.changes = ChangeSignal()
        """Wakes those who wait for room, or for a model to go."""
        self.feed = Feed()
        self.stopped = False
        """The node is shut down: nothing changes any more."""
        self.leases = 0
        """Calls that hold a lease now."""
        self.on_change: Callable[[str], None] = _nothing
        """Told of each model that may have come into another state."""
        self.before_eviction: Callable[[], None] = _nothing_at_all
        """Called before anything is chosen to go: what was heard late of its use is to be in the books."""
        keep_files = settings.capacity.disk_bytes is not None
        rules = Rules(settings.capacity.room(), settings.min_age_seconds, settings.pinned, keep_files)
        self._ledger = Ledger(rules, settings.reserve.room())
        # Bound once: every call for a resident model asks one of these.
        self.entry = self._ledger.entry
        """See `Ledger.entry`."""
        self.available = self._ledger.available
        """See `Ledger.available`."""
        self.relations = self._ledger.relations
        """Which models need which others; to be read here, and changed by `relate`."""

    def entries(self) -> Iterator[CacheEntry]:
        """Every entry of the books, most recently used first."""
        return self._ledger.newest_first()

    def versions_of(self, model: str) -> list[CacheEntry]:
        """The entries of all versions of a model."""
        return self.relations.versions(model)

    def open(self, key: Key) -> CacheEntry:
        """The entry of that key; made, as the one used last, if there is none."""
        return self._ledger.open(key, self.clock())

    def usable(self, key: Key) -> CacheEntry | None:
        """The entry of that key, if calls can use it: it is available, and so is all that it needs."""
        entry = self.available(key)
        return None if entry is None or (entry.needs and self.relations.parts(entry) is None) else entry

    def try_lease(self, entry: CacheEntry, now: float) -> Lease | None:
        """One more call uses that model, and with it all that it needs; None where it cannot be used now."""
        if entry.state is not ModelState.AVAILABLE:
            return None
        if not entry.needs:
            return self._lease((entry,), now)
        parts = self.relations.parts(entry)
        return None if parts is None else self._lease((entry, *parts), now)

    def lease(self, entry: CacheEntry, now: float) -> Lease:
        """One more call uses an available model, and with it all that it needs, as far as that is available."""
        return self.try_lease(entry, now) or self._lease((entry,), now)

    def _lease(self, held: Held, now: float) -> Lease:
        for entry in held:
            self._ledger.acquire(entry, now)
        self.leases += 1
        return Lease(held, self._release)

    def used(self, entry: CacheEntry, now: float) -> None:
        """A call that has no lease uses, or has used, a model that is in the books."""
        if self._ledger.entry(entry.key) is entry:
            self._ledger.use(entry, now)

    def relate(self, entry: CacheEntry, found: tuple[Need, ...]) -> None:
        """The entry needs what was found in its files, and what the settings say."""
        self.relations.relate(entry, self.needs(entry.key.model, found))

    def needs(self, model: str, found: tuple[Need, ...]) -> tuple[Need, ...]:
        """All that a model needs, if that much was found in its files."""
        declared = self.settings.needs.get(model)
        return tuple(dict.fromkeys((*found, *map(Need, declared)))) if declared else found

    def move(self, entry: CacheEntry, state: ModelState, cause: str = "") -> None:
        """Take an entry to another state: edges are told, and whoever waits looks again."""
        entry.move(state, self.clock(), cause)
        self.announce(entry.key.model)
        self.changes.notify()

    def announce(self, model: str) -> None:
        """Tell the edges the residency of a model, which may have changed."""
        self.feed.publish(model, residency_of(self.relations.versions(model)))
        self.on_change(model)

    def memory_estimate(self, model: str, disk_bytes: int) -> int:
        """Bytes of memory to expect of a model before it is measured."""
        declared = self.settings.memory_bytes.get(model)
        return int(disk_bytes * self.settings.memory_factor) if declared is None else declared

    @property
    def capacity(self) -> Room:
        """The room of the whole node; infinite where it has no limit."""
        return self._ledger.rules.capacity

    def free(self) -> Room:
        """What is neither in use nor promised."""
        return self._ledger.rules.capacity - self._ledger.promised()

    def admit(self, remotes: Iterable[Remote], beside: Collection[CacheEntry], spared: Collection[Key] = ()) -> Verdict:
        """Promise room to models that are to be loaded together, users last; see `Ledger.admit`."""
        self.before_eviction()
        newcomers = []
        for remote in reversed(list(remotes)):  # a user is opened first, and so goes before what it needs
            memory = self.memory_estimate(remote.model, remote.size_bytes)
            entry = self.open(Key(remote.model, remote.version))
            newcomers.append(Newcomer(entry, remote.size_bytes, memory, self.needs(remote.model, remote.needs)))
        verdict = self._ledger.admit(newcomers, beside, spared, self.clock())
        for each in newcomers:
            if isinstance(verdict, Evict):
                self.announce(each.entry.key.model)
            else:
                self.forget_if_empty(each.entry)
        return verdict

    def may_begin(self, entry: CacheEntry) -> bool:
        """Whether the room promised to this model is free by now."""
        return self._ledger.may_begin(entry)

    def make_reserve(self) -> Evict:
        """Condemn what has to go so that the configured reserve is free; see `Ledger.make_reserve`."""
        self.before_eviction()
        return self._ledger.make_reserve(self.clock())

    def drain(self, entry: CacheEntry) -> None:
        """An operator wants this model out: no new calls, and its files go with it."""
        self._ledger.drain(entry, self.clock())

    @property
    def pinned(self) -> frozenset[str]:
        """The models that are never evicted."""
        return self._ledger.rules.pinned

    def pin(self, model: str) -> None:
        """Never evict that model."""
        self._ledger.pin(model)

    def unpin(self, model: str) -> None:
        """The model may be evicted again."""
        self._ledger.unpin(model)

    @property
    def keeps_files(self) -> bool:
        """Whether files of unloaded models stay on the disk while it has room for them."""
        return self._ledger.rules.keep_files

    async def remove_files(self, entry: CacheEntry) -> None:
        """Free the disk of a model that is not in the model server. Its entry is `leaving` until that is done."""
        entry.leaving = True
        others = (other for other in self.relations.versions(entry.key.model) if other is not entry)
        alone = not any(other.disk_bytes or other.state is not ModelState.ABSENT for other in others)
        try:
            self.files.discard(entry.key, whole_model=alone)
            await self.offload(self.files.sweep)
        except OSError as error:
            logger.error("files of a model cannot be removed", extra={"model": str(entry.key), "error": str(error)})
        entry.disk_bytes = entry.fetched_bytes = 0
        entry.complete = entry.leaving = False
        entry.digest = ""
        self.forget_if_empty(entry)
        self.changes.notify()

    def forget_if_empty(self, entry: CacheEntry) -> None:
        """Drop an entry of which nothing is left: no files, no calls, not in the model server."""
        self._ledger.forget_if_empty(entry)

    def is_going(self, key: Key) -> bool:
        """Whether that model, or its files, are on their way out."""
        entry = self._ledger.entry(key)
        return entry is not None and (entry.state is ModelState.DRAINING or entry.leaving)

    async def settled(self, key: Key) -> None:
        """Return once nothing of that key is on its way out. Raises Busy when the node is shut down before that."""
        while self.is_going(key):
            if self.stopped:
                raise Busy("This node is being shut down.")
            await self.changes.wait()

    def stop(self) -> None:
        """The node is shut down: whoever waits for a change is told."""
        self.stopped = True
        self.changes.notify()

    def _release(self, held: Held) -> None:
        self.leases -= 1
        for entry in held:
            if self._ledger.release(entry):
                self.changes.notify_soon()


def _nothing(model: str) -> None:
    """Nobody wants to know."""


def _nothing_at_all() -> None:
    """Nothing is heard late."""
