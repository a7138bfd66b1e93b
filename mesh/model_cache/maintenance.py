"""Background work: adopts what is on the disk and in the model server, refills it, keeps pins and the reserve."""

import asyncio
import logging
from collections.abc import Iterable

from mesh.model_cache import config_pbtxt
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import CacheError
from mesh.model_cache.files import Found
from mesh.model_cache.held_sessions import HeldSessions
from mesh.model_cache.loaders.loader import Loader, ServerAway
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.loads.unloading import Unloading
from mesh.model_cache.tasks import Spawn
from mesh.model_cache.versions import Versions

logger = logging.getLogger(__name__)

_ASKED_AT_ONCE = 16


class Maintenance:
    """The work that no call brings about: at the start, when models are lost, and every `poll_seconds`."""

    def __init__(
        self,
        cache: CacheState,
        spawn: Spawn,
        versions: Versions,
        jobs: Jobs,
        unloading: Unloading,
        sessions: HeldSessions,
        loader: Loader,
    ) -> None:
        self._cache = cache
        self._spawn = spawn
        self._versions = versions
        self._jobs = jobs
        self._unloading = unloading
        self._sessions = sessions
        self._loader = loader

    def take_in(self, found: Iterable[Found]) -> None:
        """Enter into the books what an earlier process has left on the disk, least recently used first."""
        for each in found:
            entry = self._cache.open(each.key)
            if not entry.complete:  # a whole version counts more than the rest of an unfinished fetch of it
                entry.disk_bytes = entry.fetched_bytes = each.size_bytes
                entry.complete, entry.digest = each.complete, each.digest

    async def adopt(self, held: frozenset[Key]) -> None:
        """Enter into the books what the model server held at the first look at it: these models are AVAILABLE."""
        cache = self._cache
        needs = {
            model: await cache.offload(config_pbtxt.needs_of, cache.files.model(model))
            for model in {key.model for key in held}
        }
        batchers = await self._batchers(held)
        now = cache.clock()
        for key in sorted(held):
            entry = cache.open(key)
            cache.relate(entry, needs[key.model])
            entry.begun = True
            entry.batcher = batchers[key]
            entry.memory_bytes = cache.memory_estimate(key.model, entry.disk_bytes)
            cache.move(entry, ModelState.AVAILABLE)
            self._versions.serve_as_newest(entry, now)
        if not cache.keeps_files:
            for entry in list(cache.entries()):
                if entry.state is ModelState.ABSENT and entry.complete:
                    await cache.remove_files(entry)
        self._unloading.carry_out(cache.make_reserve())

    async def _batchers(self, held: frozenset[Key]) -> dict[Key, str]:
        places = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(key: Key) -> tuple[Key, str]:
            async with places:
                try:
                    return key, await self._loader.batcher(key)
                except ServerAway:
                    return key, ""

        return dict(await asyncio.gather(*map(ask, held)))

    def refill(self, lost: list[CacheEntry]) -> None:
        """The model server was restarted and lost these, most recently used first: load them again in that order."""
        for entry in lost:
            entry.begun = False
            entry.memory_bytes = 0
            self._cache.move(entry, ModelState.ABSENT)
        self._spawn(self._refill([entry.key for entry in lost]))

    async def run(self) -> None:
        """Every `poll_seconds`, until cancelled: let failures and sessions lapse, restore the reserve, load what is
        pinned.
        """
        while True:
            self._sessions.expire()
            self._forget_failures()
            self._unloading.carry_out(self._cache.make_reserve())
            for model in self._cache.pinned:
                if not any(self._cache.usable(entry.key) for entry in self._cache.versions_of(model)):
                    self._spawn(self._bring_pinned(model))
            await asyncio.sleep(self._cache.settings.poll_seconds)

    async def _refill(self, keys: list[Key]) -> None:
        places = asyncio.Semaphore(self._cache.settings.refill_concurrency)

        async def refill(key: Key) -> None:
            try:
                if self._cache.entry(key) is not None:
                    await self._jobs.bring(key)
            except CacheError as error:
                logger.warning("model not loaded again", extra={"model": str(key), "error": error.cause})
            finally:
                places.release()

        for key in keys:
            await places.acquire()
            self._spawn(refill(key))

    def _forget_failures(self) -> None:
        """A failed model whose back-off is over is ABSENT again, so that edges send calls for it."""
        now = self._cache.clock()
        for entry in list(self._cache.entries()):
            if entry.state is ModelState.FAILED and self._cache.back_off.check(entry.key, now) is None:
                self._cache.move(entry, ModelState.ABSENT)
                self._cache.forget_if_empty(entry)

    async def _bring_pinned(self, model: str) -> None:
        try:
            await self._jobs.bring(await self._versions.resolve(model, None, None))
        except CacheError as error:
            logger.warning("pinned model cannot be had", extra={"model": model, "error": error.cause})
