"""Unloading: each condemned model leaves the model server when its calls have ended, and not before."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mesh.back_off import RetryDelays
from mesh.model_cache.books.eviction import Evict
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy
from mesh.model_cache.loaders.loader import Loader, LoadFailed, ServerAway
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.tasks import Spawn

logger = logging.getLogger(__name__)

Carried = Callable[[str], Awaitable[None]]
"""Returns once no call for that model comes without a lease any more, and those that run have got one."""

# Without what it needs a model cannot answer its calls in flight, and Triton would take an ensemble down at once.
_NEEDING = frozenset({ModelState.AVAILABLE, ModelState.DRAINING})
_RETRY_FIRST, _RETRY_MOST = 0.5, 30.0  # seconds between attempts to unload what the server does not let go


class Unloading:
    """Takes DRAINING models out of the model server, and their files from the disk where they are to go."""

    def __init__(
        self, cache: CacheState, loader: Loader, server: ServerHealth, spawn: Spawn, carried: Carried | None = None
    ) -> None:
        """`carried` where calls may come that the cache is not asked about; see `mesh.model_cache.carried`."""
        self._cache = cache
        self._loader = loader
        self._server = server
        self._spawn = spawn
        self._carried = carried
        self.unloaded = 0
        """Models that the model server has let go of."""

    def carry_out(self, evict: Evict) -> None:
        """Start what an eviction has decided."""
        for entry in map(self._cache.entry, evict.unload):
            if entry is not None:
                self.begin(entry)
        for entry in map(self._cache.entry, evict.delete):
            if entry is not None and entry.key not in evict.unload:
                self._spawn(self._cache.remove_files(entry))

    def begin(self, entry: CacheEntry) -> None:
        """A model is DRAINING: edges are told, and it is unloaded in the background."""
        self._cache.announce(entry.key.model)
        self._spawn(self._drain(entry))

    async def _drain(self, entry: CacheEntry) -> None:
        """Wait for calls that come without a lease, those in flight and the models that need it; unload, free the disk.

        Ends only when the server has let go.
        """
        cache = self._cache
        if self._carried is not None:
            await self._carried(entry.key.model)
        while entry.in_flight or any(user.state in _NEEDING for user in cache.relations.users(entry)):
            await cache.changes.wait()
        await self._unload(entry)
        self.unloaded += 1
        entry.memory_bytes = 0
        entry.begun = False
        cache.move(entry, ModelState.ABSENT)
        if entry.leaving:
            await cache.remove_files(entry)
        else:
            cache.forget_if_empty(entry)
        logger.info("model unloaded", extra={"model": str(entry.key)})

    async def _unload(self, entry: CacheEntry) -> None:
        delays = RetryDelays(_RETRY_FIRST, _RETRY_MOST)
        while True:
            try:
                # A server that was away may have kept the model: it is told when it is back.
                await self._server.wait_up()
                async with asyncio.timeout(self._cache.settings.load_seconds):
                    await self._loader.unload(entry.key, self._cache.files.model(entry.key.model))
                return
            except ServerAway:
                self._server.gone()
            except Busy:
                continue
            except (LoadFailed, TimeoutError) as error:
                entry.cause = str(error) or "The model server does not answer the unload."
                logger.warning("model is not let go", extra={"model": str(entry.key), "error": entry.cause})
                await asyncio.sleep(next(delays))
