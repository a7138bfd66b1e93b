"""The load of one model version: room, files, the model server; and the books put right where one of them fails."""

import asyncio
import logging
from collections.abc import Callable

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, CacheError, ModelBroken
from mesh.model_cache.loaders.loader import Loader, LoadFailed, ServerAway
from mesh.model_cache.loads.admission import Admission
from mesh.model_cache.loads.fetching import Fetching
from mesh.model_cache.loads.needed import Needed
from mesh.model_cache.loads.stages import StageName, Stages
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.stores.store import Remote, StoreCorrupt

logger = logging.getLogger(__name__)

_DEATHS = 3  # times that a server may go away under one load before the model is held to be the reason
_MAX_EXPLANATION = 500  # characters of a model server's explanation that clients are told


class Loading:
    """The steps from a model to which room is promised to an available one."""

    def __init__(
        self,
        cache: CacheState,
        admission: Admission,
        fetching: Fetching,
        needed: Needed,
        loader: Loader,
        server: ServerHealth,
        stages_of: Callable[[Key], Stages],
    ) -> None:
        """`stages_of` are those of a load under way, of that model."""
        self._cache = cache
        self._stages_of = stages_of
        self._admission = admission
        self._fetching = fetching
        self._needed = needed
        self._loader = loader
        self._server = server

    async def load(self, entry: CacheEntry, remote: Remote) -> None:
        """Return once the model is AVAILABLE. Raises CacheError; what was begun is undone or kept for the next time."""
        stages = self._stages_of(entry.key)
        try:
            with stages.at(StageName.ROOM):
                await self._admission.begin(entry)
            if not entry.complete:
                with stages.at(StageName.FETCH):
                    await self._fetching.fetch(entry, remote)
            with stages.at(StageName.NEEDS):
                await self._needed.wait(entry)
            with stages.at(StageName.SERVER):
                await self._load(entry)
        except BaseException as error:
            await self._undo(entry, error)
            raise

    async def _load(self, entry: CacheEntry) -> None:
        cache, key = self._cache, entry.key
        cache.move(entry, ModelState.LOADING)
        for _ in range(_DEATHS):
            await self._server.wait_up()
            await self._needed.wait(entry)  # again: a server that was away may have lost them
            try:
                async with asyncio.timeout(cache.settings.load_seconds):
                    loaded = await self._loader.load(key, cache.files.model(key.model))
                    entry.batcher = await self._loader.batcher(key)
            except ServerAway as error:
                logger.warning("model server went away under a load", extra={"model": str(key), "error": str(error)})
                self._server.gone()
                continue
            except LoadFailed as error:
                raise ModelBroken(f"Model {key.model!a} does not load: {str(error)[:_MAX_EXPLANATION]}") from error
            except TimeoutError:
                seconds = cache.settings.load_seconds
                raise ModelBroken(f"Model {key.model!a} does not load: not ready after {seconds:g} s.") from None
            cache.back_off.clear(key)
            if loaded.memory_bytes is not None and key.model not in cache.settings.memory_bytes:
                entry.memory_bytes = loaded.memory_bytes
            cache.move(entry, ModelState.AVAILABLE)
            return
        raise ModelBroken(f"Model {key.model!a} does not load: the model server ended {_DEATHS} times under it.")

    async def _undo(self, entry: CacheEntry, error: BaseException) -> None:
        """The books after a load that failed or was called off. Files that arrived stay for the next try."""
        cache = self._cache
        was_loading = entry.state is ModelState.LOADING
        entry.begun = False
        entry.memory_bytes = 0
        if not entry.complete:
            entry.disk_bytes = entry.fetched_bytes
        if isinstance(error, CacheError) and not isinstance(error, Busy) and not error.of_another:
            cache.back_off.record(entry.key, error, cache.clock())
            cache.move(entry, ModelState.FAILED, error.cause)
        else:
            cache.move(entry, ModelState.ABSENT)
        if isinstance(error, asyncio.CancelledError):
            cache.forget_if_empty(entry)
            return
        spoilt = isinstance(error.__cause__, StoreCorrupt)
        if entry.disk_bytes and (spoilt or (entry.complete and not cache.keeps_files)):
            await cache.remove_files(entry)
        if was_loading:
            await self._let_go(entry.key)
        cache.forget_if_empty(entry)

    async def _let_go(self, key: Key) -> None:
        """A server that failed to load a model may still try: tell it to stop, as far as it can be told."""
        try:
            async with asyncio.timeout(self._cache.settings.poll_seconds):
                await self._loader.unload(key, self._cache.files.model(key.model))
        except (LoadFailed, ServerAway, TimeoutError) as error:
            logger.info("no unload after a failed load", extra={"model": str(key), "error": str(error)})
