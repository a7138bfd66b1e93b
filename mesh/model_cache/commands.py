"""What a node is told to do with its models: load, unload, pin and unpin by operators, warm by edges."""

from dataclasses import replace

from mesh.model_cache.books.names import Key, check_name, check_version
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import CacheError, Refused
from mesh.model_cache.loads.jobs import Jobs
from mesh.model_cache.loads.unloading import Unloading
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.versions import Version, Versions


class Commands:
    """Each returns when it is done. Whoever stops waiting does not stop a load."""

    def __init__(
        self, core: CacheState, store_index: StoreIndex, versions: Versions, jobs: Jobs, unloading: Unloading
    ) -> None:
        self._core = core
        self._store_index = store_index
        self._versions = versions
        self._jobs = jobs
        self._unloading = unloading

    async def load(self, model: str, version: Version = None, label: str | None = None) -> Key:
        """Bring a model now, whatever happened to it before. Raises CacheError."""
        check_name(model)
        self._store_index.drop(model)
        key = await self._versions.resolve(model, version, label)
        self._core.quarantine.clear(key)
        await self._bring_absent(key)
        return key

    async def warm(self, model: str) -> None:
        """Bring a model that calls are about to come for, as one of those calls would. Raises CacheError."""
        check_name(model)
        await self._bring_absent(await self._versions.resolve(model, None, None))

    async def unload(self, model: str, version: Version = None) -> None:
        """Let a model go (all its versions, if none is named) once its calls have ended. Raises Refused, BadName."""
        check_name(model)
        number = None if version is None else check_version(version)
        if model in self._core.ledger.rules.pinned:
            raise Refused(f"Model {model!a} is pinned: unpin it first.")
        keys = [entry.key for entry in self._core.ledger.of_model(model) if number in (None, entry.key.version)]
        for key in keys:
            await self._jobs.called_off(key)
            entry = self._core.ledger.available(key)
            if entry is not None:
                self._core.ledger.drain(entry, self._core.clock())
                self._unloading.begin(entry)
        for key in keys:
            await self._core.settled(key)

    async def pin(self, model: str) -> None:
        """Load a model and never evict it. Raises CacheError, and then it is not pinned."""
        before = self._core.ledger.rules.pinned
        self._set_pinned(before | {check_name(model)})
        try:
            await self.load(model)
        except CacheError:
            self._set_pinned(self._core.ledger.rules.pinned - ({model} - before))
            raise

    def unpin(self, model: str) -> None:
        """The model may be evicted again."""
        self._set_pinned(self._core.ledger.rules.pinned - {model})
        self._core.bell.ring()

    async def _bring_absent(self, key: Key) -> None:
        if self._core.ledger.available(key) is None:
            await self._jobs.bring(key)

    def _set_pinned(self, models: frozenset[str]) -> None:
        self._core.ledger.rules = replace(self._core.ledger.rules, pinned=models)
