"""The right to begin a load: what is to be brought, and room for it that is promised, then free."""

from collections.abc import Callable

from mesh.model_cache.books.eviction import Evict, TooLarge, Wait
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import Entry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, NoRoom, StoreAway
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.stores.store import Remote


class Admission:
    """First `admit`, which promises room, then `begin`, which waits until it is free.

    `carry_out` starts what an eviction has decided.
    """

    def __init__(self, core: CacheState, store_index: StoreIndex, carry_out: Callable[[Evict], None]) -> None:
        self._core = core
        self._store_index = store_index
        self._carry_out = carry_out

    async def admit(self, key: Key) -> tuple[Entry, Remote]:
        """Promise room to the model: it is FETCHING, and whoever makes room is on the way out. Raises CacheError."""
        core = self._core
        deadline = core.clock() + core.settings.room_seconds
        while True:
            await core.settled(key)
            remote = await self._remote(key)
            if core.is_going(key):
                continue
            memory = core.memory_estimate(key.model, remote.size_bytes)
            now = core.clock()
            entry = core.ledger.open(key, now)
            verdict = core.ledger.admit(entry, remote.size_bytes, memory, now)
            if isinstance(verdict, Evict):
                core.announce(key.model)
                self._carry_out(verdict)
                return entry, remote
            core.ledger.forget_if_empty(entry)
            if isinstance(verdict, TooLarge):
                raise NoRoom(f"Model {key.model!a} is too large for this node: {verdict.reason}.")
            await self._wait_for_room(key, verdict, deadline)

    async def begin(self, entry: Entry) -> None:
        """Return once those who make room are gone. Raises Busy if one of them stays too long."""
        deadline = self._core.clock() + self._core.settings.load_seconds
        while not self._core.ledger.may_begin(entry):
            left = deadline - self._core.clock()
            if left <= 0:
                raise Busy(f"This node has no room for model {entry.key.model!a} now: another one is not let go.")
            await self._core.bell.wait(left)
        entry.begun = True

    async def _remote(self, key: Key) -> Remote:
        """What is to be brought. Whole files on the disk are as good as the store, unless it has others by now."""
        entry = self._core.ledger.entries.get(key)
        if entry is None or not entry.complete:
            return await self._store_index.find(key)
        remote = self._store_index.known(key)
        if entry.state is ModelState.FAILED:
            try:
                remote = await self._store_index.find(key)
            except StoreAway:
                if not entry.complete:
                    raise
        if remote is not None and remote.digest != entry.digest:
            await self._core.remove_files(entry)
            return remote
        return Remote(key.model, key.version, entry.disk_bytes, entry.digest)

    async def _wait_for_room(self, key: Key, wait: Wait, deadline: float) -> None:
        now = self._core.clock()
        if now >= deadline:
            raise Busy(f"This node has no room for model {key.model!a} now: {wait.reason}.")
        until = deadline if wait.until is None else min(deadline, wait.until)
        await self._core.bell.wait(until - now)
