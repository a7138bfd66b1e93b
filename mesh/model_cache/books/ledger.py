"""The ledger of a node: every model version with its state, in order of use, and to which of them room is promised."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mesh.model_cache.books.eviction import Evict, Rules, TooLarge, Verdict, Wait, make_room, too_large
from mesh.model_cache.books.lru import Lru
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import Need
from mesh.model_cache.books.relations import Relations
from mesh.model_cache.books.states import CLAIMING, CacheEntry, ModelState, Room, promised_to, taken_by


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A model to which room is to be promised: the size of its files, the memory to expect, and what it needs."""

    entry: CacheEntry
    disk_bytes: int
    memory_bytes: int
    needs: tuple[Need, ...] = ()


class Ledger:
    """Entries by key, and their order of use. What is promised never exceeds the capacity.

    Room is promised when a model is admitted, although the victims are still there; the newcomer may `begin` once it
    is really free. As the promises fit, every newcomer begins after the last victim has gone.
    """

    def __init__(self, rules: Rules, reserve: Room) -> None:
        self.rules = rules
        self.relations = Relations()
        """Which entry needs which others."""
        self._entries: dict[Key, CacheEntry] = {}
        self._reserve = reserve
        self._order: Lru[Key] = Lru()

    def oldest_first(self) -> Iterator[CacheEntry]:
        """Every entry, least recently used first."""
        return (self._entries[key] for key in self._order)

    def newest_first(self) -> Iterator[CacheEntry]:
        """Every entry, most recently used first."""
        return (self._entries[key] for key in reversed(self._order))

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
            self.relations.add(entry)
        return entry

    def acquire(self, entry: CacheEntry, now: float) -> None:
        """One more call uses the model. Of models that need each other acquire the user first, and it goes first."""
        entry.in_flight += 1
        self.use(entry, now)

    def use(self, entry: CacheEntry, now: float) -> None:
        """The model is used now."""
        entry.last_used = now
        self._order.touch(entry.key)

    def release(self, entry: CacheEntry) -> bool:
        """One call less. Whether that was the last."""
        entry.in_flight -= 1
        return entry.in_flight == 0

    def admit(
        self, newcomers: Sequence[Newcomer], beside: Collection[CacheEntry], spared: Collection[Key], now: float
    ) -> Verdict:
        """Promise room to models that are to be fetched and loaded together, and to stay beside others they need.

        Of these, and of those that are `spared`, nobody is evicted.

        With Evict as the answer the promise is made to all of them: they are FETCHING, and what is named there DRAINING
        or leaving, to be seen to by the caller. Otherwise nothing has changed.
        """
        whole = promised_to(beside)
        need = Room()
        for each in newcomers:
            whole += Room(1, each.disk_bytes, each.memory_bytes)
            need += Room(1, max(each.disk_bytes - each.entry.disk_bytes, 0), each.memory_bytes)
        if not whole.fits(self.rules.capacity):
            return TooLarge(too_large(whole, self.rules.capacity))
        kept = {each.entry.key for each in newcomers} | {entry.key for entry in beside} | set(spared)
        verdict = make_room(self.rules, self.oldest_first(), need, kept, now, self._rightful_users)
        if isinstance(verdict, Evict):
            self._condemn(verdict, now)
            for each in newcomers:
                each.entry.disk_bytes = each.disk_bytes
                each.entry.memory_bytes = each.memory_bytes
                each.entry.begun = False
                each.entry.move(ModelState.FETCHING, now)
                self.relations.relate(each.entry, each.needs)
        return verdict

    def may_begin(self, entry: CacheEntry) -> bool:
        """Whether the room promised to this model is free by now."""
        own = Room(1, entry.disk_bytes, entry.memory_bytes)
        others = taken_by(other for other in self._entries.values() if other is not entry)
        return (own + others).fits(self.rules.capacity)

    def make_reserve(self, now: float) -> Evict:
        """Condemn what has to go so that the configured reserve is free; nothing where that cannot be. See `admit`."""
        verdict = make_room(self.rules, self.oldest_first(), self._reserve, (), now, self._rightful_users)
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
            self.relations.remove(entry)
        return True

    def promised(self) -> Room:
        """The room in use or promised, of all models together."""
        return promised_to(self._entries.values())

    def _rightful_users(self, entry: CacheEntry) -> Iterator[Key]:
        return (user.key for user in self.relations.users(entry) if user.state in CLAIMING)

    def _condemn(self, evict: Evict, now: float) -> None:
        for key in evict.unload:
            self._entries[key].move(ModelState.DRAINING, now)
        for key in evict.delete:
            self._entries[key].leaving = True
