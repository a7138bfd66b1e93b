"""Fetches: the files of a model version from the store to this node's disk, and the client's error where that fails."""

import asyncio
import errno

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.stores.store import Remote, Store, StoreCorrupt, StoreError, StoreFull, StoreMissing


class Fetching:
    """At most `fetch_concurrency` at once; one that makes no progress for `fetch_stall_seconds` is given up."""

    def __init__(self, cache: CacheState, store_index: StoreIndex, store: Store) -> None:
        self._cache = cache
        self._store_index = store_index
        self._store = store
        self._fetches = asyncio.Semaphore(cache.settings.fetch_concurrency)

    async def fetch(self, entry: CacheEntry, remote: Remote) -> None:
        """Return once the files are complete, and so is the entry. Raises CacheError, from the store's own error."""
        cache, key = self._cache, entry.key
        stall = cache.settings.fetch_stall_seconds
        loop = asyncio.get_running_loop()
        async with self._fetches:
            try:
                async with asyncio.timeout(stall) as limit:

                    def progress(done: int) -> None:
                        entry.fetched_bytes = done
                        if not limit.expired():
                            limit.reschedule(loop.time() + stall)

                    await self._store.fetch(remote, cache.files.version(key), progress)
            except TimeoutError:
                cause = f"The fetch of model {key} made no progress for {stall:g} s."
                raise StoreAway(_cannot_fetch(key), cause) from None
            except (StoreError, OSError) as error:
                self._store_index.drop(key.model)  # it may have changed since it was listed
                raise _refusal(key, error) from error
        await cache.offload(cache.files.note, key, remote.digest)
        entry.complete = True
        entry.digest = remote.digest
        entry.fetched_bytes = entry.disk_bytes


def _refusal(key: Key, error: StoreError | OSError) -> CacheError:
    """The client's error for a fetch that failed."""
    if isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return NoRoom(f"Model {key.model!a} is too large for what this node's disk has free.", str(error))
    if isinstance(error, StoreMissing):
        return ModelMissing(f"Version {key.version} of model {key.model!a} is no longer in its store.", str(error))
    if isinstance(error, StoreCorrupt):
        return ModelBroken(f"Model {key.model!a} is damaged in its store.", str(error))
    return StoreAway(_cannot_fetch(key), str(error))


def _cannot_fetch(key: Key) -> str:
    return f"Model {key.model!a} cannot be fetched now: its store does not answer as it should."
