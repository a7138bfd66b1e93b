"""The ledger of a node: every model version with its state, in order of use, and to which of them room is promised."""

from collections.abc import Iterator
from dataclasses import replace

from mesh.model_cache.books.eviction import Evict, Rules, TooLarge, Verdict, Wait, make_room
from mesh.model_cache.books.lru import Lru
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState, Room


class Ledger:
    """Entries by key, and their order of use. What is promised never exceeds the capacity.

    Room is promised when a model is admitted, although the victims are still there; the newcomer may `begin` once it
    is really free. As the promises fit, every newcomer begins after the last victim has gone.
    """

    def __init__(self, rules: Rules, reserve: Room) -> None:
        self.rules = rules
        self._entries: dict[Key, CacheEntry] = {}
        self._reserve = reserve
        self._order: Lru[Key] = Lru()

    def oldest_first(self) -> Iterator[CacheEntry]:
        """Every entry, least recently used first."""
        return (self._entries[key] for key in self._order)

    def newest_first(self) -> Iterator[CacheEntry]:
        """Every entry, most recently used first."""
        return (self._entries[key] for key in reversed(self._order))

    def of_model(self, model: str) -> list[CacheEntry]:
        """The entries of all versions of a model."""
        return [entry for key, entry in self._entries.items() if key.model == model]

    def entry(self, key: Key) -> CacheEntry | None:
        """The entry of that key, in whatever state, if there is one."""
        return self._entries.get(key)

    def available(self, key: Key) -> CacheEntry | None:
        """The entry of that key, if calls can use it."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.state is ModelState.AVAILABLE else None

    def open(self, key: Key, now: float) -> CacheEntry:
        """The entry of that key; made, as the one used last, if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = CacheEntry(key, since=now, last_used=now)
            self._order.add(key)
        return entry

    def acquire(self, entry: CacheEntry, now: float) -> None:
        """One more call uses the model."""
        entry.in_flight += 1
        entry.last_used = now
        self._order.touch(entry.key)

    def release(self, entry: CacheEntry) -> bool:
        """One call less. Whether that was the last."""
        entry.in_flight -= 1
        return entry.in_flight == 0

    def admit(self, entry: CacheEntry, disk_bytes: int, memory_bytes: int, now: float) -> Verdict:
        """Promise room to a model that is to be fetched and loaded.

        With Evict as the answer the promise is made: the model is FETCHING and what is named there DRAINING or
        leaving, to be seen to by the caller. Otherwise nothing has changed.
        """
        whole = Room(1, disk_bytes, memory_bytes)
        if not whole.fits(self.rules.capacity):
            return make_room(self.rules, (), whole, entry.key, now)
        need = Room(1, max(disk_bytes - entry.disk_bytes, 0), memory_bytes)
        verdict = make_room(self.rules, self.oldest_first(), need, entry.key, now)
        if isinstance(verdict, Evict):
            self._condemn(verdict, now)
            entry.disk_bytes = disk_bytes
            entry.memory_bytes = memory_bytes
            entry.begun = False
            entry.move(ModelState.FETCHING, now)
        return verdict

    def may_begin(self, entry: CacheEntry) -> bool:
        """Whether the room promised to this model is free by now."""
        present = Room(1, entry.disk_bytes, entry.memory_bytes)
        for other in self._entries.values():
            if other is not entry:
                present += other.present
        return present.fits(self.rules.capacity)

    def make_reserve(self, now: float) -> Evict:
        """Condemn what has to go so that the configured reserve is free; nothing where that cannot be. See `admit`."""
        verdict = make_room(self.rules, self.oldest_first(), self._reserve, None, now)
        if isinstance(verdict, Wait | TooLarge):
            return Evict()
        self._condemn(verdict, now)
        return verdict

    def drain(self, entry: CacheEntry, now: float) -> None:
        """Condemn an available model that an operator wants out: no new calls, and its files go with it."""
        entry.move(ModelState.DRAINING, now)
        entry.leaving = not self.rules.keep_files

    def pin(self, model: str) -> None:
        """Never evict that model."""
        self.rules = replace(self.rules, pinned=self.rules.pinned | {model})

    def unpin(self, model: str) -> None:
        """The model may be evicted again."""
        self.rules = replace(self.rules, pinned=self.rules.pinned - {model})

    def forget_if_empty(self, entry: CacheEntry) -> bool:
        """Drop an entry of which nothing is left. Whether it was dropped."""
        if entry.state is not ModelState.ABSENT or entry.disk_bytes or entry.in_flight or entry.leaving:
            return False
        if self._entries.pop(entry.key, None) is not None:
            self._order.discard(entry.key)
        return True

    def promised(self) -> Room:
        """The room in use or promised, of all models together."""
        return sum((entry.promised for entry in self._entries.values()), Room())

    def _condemn(self, evict: Evict, now: float) -> None:
        for key in evict.unload:
            self._entries[key].move(ModelState.DRAINING, now)
        for key in evict.delete:
            self._entries[key].leaving = True
