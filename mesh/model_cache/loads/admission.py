"""Admission of a load: which models it takes, and room for all of them that is first promised, then free."""

from collections.abc import Callable

from mesh.model_cache.books.eviction import Evict, TooLarge, Wait
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CLAIMING, CacheEntry
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, NoRoom
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.loads.planning import Member, Planning
from mesh.model_cache.stores.store import Remote


class Admission:
    """First `admit`, which promises room, then `begin`, which waits until it is free.

    `carry_out` starts what an eviction has decided.
    """

    def __init__(self, cache: CacheState, planning: Planning, jobs: Jobs, carry_out: Callable[[Evict], None]) -> None:
        self._cache = cache
        self._planning = planning
        self._jobs = jobs
        self._carry_out = carry_out

    async def admit(self, key: Key, newer: bool) -> list[Remote]:
        """Promise room, in one step, to the model and to what it needs, as far as that is not loaded or on its way.

        These are returned, each after what it needs itself: they are FETCHING, and the evicted ones on their way out.
        The caller starts their loads before anything else happens. A `newer` version evicts none that needs the model:
        they have an older one. Raises CacheError.
        """
        cache, deadline = self._cache, None
        while True:
            members = await self._planning.plan(key)
            going = next((each.key for each in members if cache.is_going(each.key)), None)
            if going is not None:
                await cache.settled(going)
                continue
            entries = {each.key: cache.entry(each.key) for each in members}
            beside = [entry for entry in entries.values() if entry is not None and entry.state in CLAIMING]
            there = {entry.key for entry in beside}
            absent = [each for each in members if each.key not in there]
            if await self._joined(key, absent):
                continue
            remotes = [each.remote for each in absent if each.remote is not None]
            if len(remotes) < len(absent):
                continue  # one that was loaded a moment ago has gone
            spared = cache.relations.all_users(key.model) if newer else ()
            verdict = cache.admit(remotes, beside, spared) if remotes else Evict()
            if isinstance(verdict, Evict):
                self._carry_out(verdict)
                return remotes
            if isinstance(verdict, TooLarge):
                together = " with the models that it needs" if len(members) > 1 else ""
                raise NoRoom(f"Model {key.model!a} is too large for this node{together}: {verdict.reason}.")
            deadline = cache.clock() + cache.settings.room_seconds if deadline is None else deadline
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

    async def _joined(self, key: Key, absent: list[Member]) -> bool:
        """Whether a model that is needed had a load of its own that had no promise yet; that has ended now.

        Raises CacheError for one that must not be tried yet, and for one of which that load has failed.
        """
        for each in absent:
            if each.key == key:
                continue
            failure = self._cache.back_off.check(each.key, self._cache.clock())
            if failure is not None:
                raise failure.error().under(key.model, each.key.model)
            job = self._jobs.get(each.key)
            if job is not None:
                await job.join()
                if job.error is not None:
                    raise job.error.under(key.model, each.key.model)
                return True
        return False

    async def _wait_for_room(self, key: Key, wait: Wait, deadline: float) -> None:
        now = self._cache.clock()
        if now >= deadline:
            raise Busy(f"This node has no room for model {key.model!a} now: {wait.reason}.")
        until = deadline if wait.until is None else min(deadline, wait.until)
        await self._cache.changes.wait(until - now)
