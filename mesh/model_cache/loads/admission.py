"""Admission of a load: which files it takes, and room that is first promised, then free."""

from collections.abc import Callable

from mesh.model_cache.books.eviction import Evict, TooLarge, Wait
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, ModelBroken, NoRoom, StoreAway
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.stores.store import Remote


class Admission:
    """First `admit`, which promises room, then `begin`, which waits until it is free.

    `carry_out` starts what an eviction has decided.
    """

    def __init__(self, cache: CacheState, store_index: StoreIndex, carry_out: Callable[[Evict], None]) -> None:
        self._cache = cache
        self._store_index = store_index
        self._carry_out = carry_out

    async def admit(self, key: Key) -> tuple[CacheEntry, Remote]:
        """Promise room to the model: it is FETCHING, and the evicted ones are on their way out. Raises CacheError."""
        cache = self._cache
        deadline = cache.clock() + cache.settings.room_seconds
        while True:
            await cache.settled(key)
            remote = await self._remote(key)
            if cache.is_going(key):
                continue
            entry = cache.open(key)
            verdict = cache.admit(entry, remote.size_bytes)
            if isinstance(verdict, Evict):
                self._carry_out(verdict)
                return entry, remote
            cache.forget_if_empty(entry)
            if isinstance(verdict, TooLarge):
                raise NoRoom(f"Model {key.model!a} is too large for this node: {verdict.reason}.")
            await self._wait_for_room(key, verdict, deadline)

    async def begin(self, entry: CacheEntry) -> None:
        """Return once the evicted models are gone. Raises Busy if one of them stays for `load_seconds`."""
        deadline = self._cache.clock() + self._cache.settings.load_seconds
        while not self._cache.may_begin(entry):
            left = deadline - self._cache.clock()
            if left <= 0:
                raise Busy(f"This node has no room for model {entry.key.model!a} now: another one is not let go.")
            await self._cache.changes.wait(left)
        entry.begun = True

    async def _remote(self, key: Key) -> Remote:
        """The version to load. Whole files on the disk are as good as the store, unless it has others by now."""
        entry = self._cache.entry(key)
        if entry is None or not entry.complete:
            return await self._store_index.find(key)
        remote = self._store_index.known(key)
        if entry.state is ModelState.FAILED:
            try:
                remote = await self._store_index.find(key)
            except (StoreAway, ModelBroken):
                if not entry.complete:
                    raise
        if remote is not None and not remote.fault and remote.digest != entry.digest:
            await self._cache.remove_files(entry)
            return remote
        return Remote(key.model, key.version, entry.disk_bytes, entry.digest)

    async def _wait_for_room(self, key: Key, wait: Wait, deadline: float) -> None:
        now = self._cache.clock()
        if now >= deadline:
            raise Busy(f"This node has no room for model {key.model!a} now: {wait.reason}.")
        until = deadline if wait.until is None else min(deadline, wait.until)
        await self._cache.changes.wait(until - now)
