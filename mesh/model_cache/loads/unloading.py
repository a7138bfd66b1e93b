"""Letting models go: each when its calls have ended, and not before."""

import asyncio
import logging

from mesh.model_cache.books.eviction import Evict
from mesh.model_cache.books.states import Entry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy
from mesh.model_cache.loaders.loader import Loader, LoadFailed, ServerAway
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.tasks import Spawn

logger = logging.getLogger(__name__)

_AGAIN_FIRST, _AGAIN_MOST = 0.5, 30.0  # seconds between attempts to unload what the server does not let go


class Unloading:
    """Takes DRAINING models out of the model server, and their files from the disk where they are to go."""

    def __init__(self, core: CacheState, loader: Loader, server: ServerHealth, spawn: Spawn) -> None:
        self._core = core
        self._loader = loader
        self._server = server
        self._spawn = spawn

    def carry_out(self, evict: Evict) -> None:
        """Start what an eviction has decided."""
        for key in evict.unload:
            self.begin(self._core.ledger.entries[key])
        for key in evict.delete:
            if key not in evict.unload:
                self._spawn(self._core.remove_files(self._core.ledger.entries[key]))

    def begin(self, entry: Entry) -> None:
        """A model is DRAINING: everybody is told, and it goes."""
        self._core.announce(entry.key.model)
        self._spawn(self._drain(entry))

    async def _drain(self, entry: Entry) -> None:
        """Wait for the calls in flight, unload, free the disk. Ends only when the server has let go."""
        core = self._core
        while entry.in_flight:
            await core.bell.wait()
        await self._unload(entry)
        entry.memory_bytes = 0
        entry.begun = False
        core.move(entry, ModelState.ABSENT)
        if entry.leaving:
            await core.remove_files(entry)
        else:
            core.ledger.forget_if_empty(entry)
        logger.info("model unloaded", extra={"model": str(entry.key)})

    async def _unload(self, entry: Entry) -> None:
        delay = _AGAIN_FIRST
        while True:
            try:
                # A server that was away may have kept the model: it is told when it is back.
                await self._server.up()
                async with asyncio.timeout(self._core.settings.load_seconds):
                    await self._loader.unload(entry.key, self._core.files.model(entry.key.model))
                return
            except ServerAway:
                self._server.gone()
            except Busy:
                continue
            except (LoadFailed, TimeoutError) as error:
                entry.cause = str(error) or "The model server does not answer the unload."
                logger.warning("model is not let go", extra={"model": str(entry.key), "error": entry.cause})
                await asyncio.sleep(delay)
                delay = min(2 * delay, _AGAIN_MOST)
