"""From a wanted model to an available one, with all that it needs: one promise of room, and a load for each."""

from functools import partial

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.loads.admission import Admission
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.loads.loading import Loading
from mesh.model_cache.loads.needed import Needed
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.stores.store import Remote


class Bringing:
    """The work of a job (see `Jobs`): `bring` may run once at a time for a key.

    What the model needs gets jobs of its own, so that calls for these join them.
    """

    def __init__(
        self,
        cache: CacheState,
        admission: Admission,
        loading: Loading,
        needed: Needed,
        jobs: Jobs,
        server: ServerHealth,
    ) -> None:
        self._cache = cache
        self._admission = admission
        self._loading = loading
        self._needed = needed
        self._jobs = jobs
        self._server = server

    async def bring(self, key: Key, newer: bool = False) -> CacheEntry:
        """Return once the model is AVAILABLE, and so is all that it needs. Raises CacheError.

        `newer`: it is to take over from an older version that is in use, and no call waits for it.
        """
        await self._server.wait_known()
        while True:
            entry = self._cache.usable(key)
            if entry is not None:
                return entry
            own: Remote | None = None
            for remote in await self._admission.admit(key, newer):
                each = Key(remote.model, remote.version)
                if each == key:
                    own = remote
                else:
                    self._jobs.start(each, partial(self._load, remote))
            if own is not None:
                return await self._load(own)
            entry = self._cache.available(key)
            if entry is not None:
                await self._needed.wait(entry)

    async def _load(self, remote: Remote) -> CacheEntry:
        entry = self._cache.entry(Key(remote.model, remote.version))
        assert entry is not None  # room is promised to it
        await self._loading.load(entry, remote)
        return entry
