"""What a model needs, waited for: it is loaded after that."""

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import Need
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import CacheError
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.versions import Versions


class Needed:
    """Waits for the loads of what an entry needs, and starts those that nobody else has started."""

    def __init__(self, cache: CacheState, versions: Versions, jobs: Jobs) -> None:
        self._cache = cache
        self._versions = versions
        self._jobs = jobs

    async def wait(self, entry: CacheEntry) -> None:
        """Return once all that the entry needs can be used. Raises CacheError, of the part that failed, by its name."""
        for need in entry.needs:
            while not self._usable(need):
                try:
                    await self._jobs.bring(await self._key(need))
                except CacheError as error:
                    raise error.under(entry.key.model, need.model) from error

    def _usable(self, need: Need) -> bool:
        part = self._cache.relations.serving(need)
        return part is not None and self._cache.usable(part.key) is not None

    async def _key(self, need: Need) -> Key:
        coming = self._cache.relations.meant(need)
        if coming is not None and not self._cache.is_going(coming.key):
            return coming.key
        return await self._versions.resolve(need.model, need.version, None)
