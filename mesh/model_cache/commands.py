"""Commands to a node: load, unload, pin and unpin by operators, warm by edges."""

from mesh.model_cache.books.names import Key, check_name, check_version
from mesh.model_cache.books.states import CLAIMING
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, CacheError, Refused
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.loads.planning import Planning
from mesh.model_cache.loads.unloading import Unloading
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.versions import Versions, VersionSpec


class Commands:
    """Each command returns once it is carried out. To stop waiting for one does not stop a load."""

    def __init__(
        self,
        cache: CacheState,
        store_index: StoreIndex,
        versions: Versions,
        planning: Planning,
        jobs: Jobs,
        unloading: Unloading,
    ) -> None:
        self._cache = cache
        self._store_index = store_index
        self._versions = versions
        self._planning = planning
        self._jobs = jobs
        self._unloading = unloading

    async def load(self, model: str, version: VersionSpec = None, label: str | None = None) -> Key:
        """Load a model now, in spite of earlier failures and of what is remembered of its store. Raises CacheError.

        The same holds for all that it needs.
        """
        check_name(model)
        self._store_index.drop(model)
        key = await self._versions.resolve(model, version, label)
        for member in await self._planning.plan(key, fresh=True):
            self._cache.back_off.clear(member.key)
        await self._load_absent(key)
        return key

    async def warm(self, model: str, *, into_free_room: bool = False) -> None:
        """Load a model that calls are about to come for, as one of those calls would. Raises CacheError.

        `into_free_room`: raises Busy where another model would have to go for it, or for what it needs.
        """
        check_name(model)
        key = await self._versions.resolve(model, None, None)
        if into_free_room and self._cache.usable(key) is None and not await self._has_room(key):
            raise Busy("Another model would have to go.")
        await self._load_absent(key)

    async def unload(self, model: str, version: VersionSpec = None) -> None:
        """Unload a model (all its versions, if none is named) once its calls have ended.

        Raises BadName, and Refused for a model that is pinned, or that another one needs which is loaded.
        """
        check_name(model)
        number = None if version is None else check_version(version)
        if model in self._cache.pinned:
            raise Refused(f"Model {model!a} is pinned: unpin it first.")
        keys = [entry.key for entry in self._cache.versions_of(model) if number in (None, entry.key.version)]
        for key in keys:
            self._refuse_needed(key)
        for key in keys:
            await self._jobs.called_off(key)
            entry = self._cache.available(key)
            if entry is not None:
                self._refuse_needed(key)  # again: another load may have begun meanwhile
                self._cache.drain(entry)
                self._unloading.begin(entry)
        for key in keys:
            await self._cache.settled(key)

    async def pin(self, model: str) -> None:
        """Load a model and never evict it. Raises CacheError, and then it is not pinned."""
        check_name(model)
        was_pinned = model in self._cache.pinned
        self._cache.pin(model)
        try:
            await self.load(model)
        except CacheError:
            if not was_pinned:
                self._cache.unpin(model)
            raise

    def is_pinned(self, model: str) -> bool:
        """Whether it is never evicted."""
        return model in self._cache.pinned

    def unpin(self, model: str) -> None:
        """The model may be evicted again."""
        self._cache.unpin(model)
        self._cache.changes.notify()

    def _refuse_needed(self, key: Key) -> None:
        entry = self._cache.entry(key)
        users = [] if entry is None else self._cache.relations.users(entry)
        names = sorted({ascii(user.key.model) for user in users if user.state in CLAIMING})
        if names:
            raise Refused(f"Model {key.model!a} is needed by {', '.join(names)}: unload that first.")

    async def _has_room(self, key: Key) -> bool:
        """Whether the places and the memory of all that is to be loaded are free. Raises CacheError.

        Disk is not looked at: files of models that are not loaded make way there.
        """
        loads = [member.remote for member in await self._planning.plan(key) if member.remote is not None]
        memory = sum(self._cache.memory_estimate(remote.model, remote.size_bytes) for remote in loads)
        free = self._cache.free()
        return len(loads) <= free.models and memory <= free.memory_bytes

    async def _load_absent(self, key: Key) -> None:
        if self._cache.usable(key) is None:
            await self._jobs.bring(key)
