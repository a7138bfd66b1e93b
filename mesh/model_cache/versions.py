"""The version that a call means: by its number, by a label, or the newest that is available."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mesh.digits import number
from mesh.model_cache.books.names import LATEST, Key
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import CacheError, ModelBroken, ModelMissing, StoreAway
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.tasks import Spawn

logger = logging.getLogger(__name__)

VersionSpec = int | str | None
"""A version as a number or as its digits; None: not said."""


@dataclass(slots=True, eq=False)
class _Newest:
    """The version that calls without one get, and when the store is to be asked for a newer one."""

    entry: CacheEntry
    look_again: float


class Versions:
    """Resolves versions. Calls that name none never wait for another one: `bring` loads it, and then it takes over.

    `unload` is called with a version that the store has no more, once calls have another one.
    """

    def __init__(
        self,
        cache: CacheState,
        store_index: StoreIndex,
        spawn: Spawn,
        bring: Callable[[Key], Awaitable[None]],
        unload: Callable[[CacheEntry], None],
    ) -> None:
        self._cache = cache
        self._store_index = store_index
        self._spawn = spawn
        self._bring = bring
        self._unload = unload
        self._newest: dict[str, _Newest] = {}

    def number(self, model: str, version: VersionSpec, label: str | None) -> int | None:
        """The version's number, as far as it is known without the store."""
        if version is not None:
            return version if isinstance(version, int) else _numbered(version)
        return None if label is None else self._cache.settings.labels.get(model, {}).get(label)

    def in_use(self, model: str) -> CacheEntry | None:
        """The entry that calls without a version got last, in whatever state it is by now."""
        newest = self._newest.get(model)
        return None if newest is None else newest.entry

    def called(self, model: str, version: VersionSpec, label: str | None, now: float) -> CacheEntry | None:
        """The entry that a call gets, if it is available. Every `refresh_seconds` the store is asked for its newest."""
        number = self.number(model, version, label)
        if number is not None:
            return self._cache.entry(Key(model, number))
        newest = self._newest.get(model) if label is None or label == LATEST else None
        if newest is None:
            return None
        if now >= newest.look_again:
            newest.look_again = now + self._cache.settings.refresh_seconds
            self._spawn(self._follow_store(model, newest.entry.key))
            for need in newest.entry.needs:  # calls may reach what it needs through it alone
                if need.version is None:
                    self.called(need.model, None, None, now)
        return newest.entry

    def meant(self, model: str, version: VersionSpec, label: str | None) -> CacheEntry | None:
        """The entry that a call would get. Nothing is asked for it."""
        number = self.number(model, version, label)
        if number is not None:
            return self._cache.entry(Key(model, number))
        return self.in_use(model) if label is None or label == LATEST else None

    async def resolve(self, model: str, version: VersionSpec, label: str | None) -> Key:
        """The version that is meant, asking the store where that takes its list. Raises CacheError."""
        number = self.number(model, version, label)
        if number is not None:
            return Key(model, number)
        if label is not None and label != LATEST:
            raise ModelMissing(f"Model {model!a} has no version with the label {label!a}.")
        try:
            return Key(model, (await self._store_index.newest(model)).version)
        except (StoreAway, ModelBroken):
            # Whole files on the disk are as good as the store while it is away, or has a list that makes no sense.
            kept = [entry.key for entry in self._cache.versions_of(model) if entry.complete]
            if not kept:
                raise
            return max(kept)

    def serve_as_newest(self, entry: CacheEntry, now: float) -> None:
        """Calls that name no version get this one, unless a newer one is available."""
        known = self.in_use(entry.key.model)
        if known is None or known.state is not ModelState.AVAILABLE or known.key.version <= entry.key.version:
            self._newest[entry.key.model] = _Newest(entry, now + self._cache.settings.refresh_seconds)

    async def _follow_store(self, model: str, known: Key) -> None:
        """Calls go on with the version they have until the store's newest is available, and if it does not load."""
        try:
            remote = await self._store_index.newest(model, fresh=True)
            if remote.version == known.version:
                return
            await self._bring(Key(model, remote.version))
            if remote.version < known.version:
                # Asked again, for it may have been away just while somebody put another folder in its place.
                remote = await self._store_index.newest(model, fresh=True)
                self._go_back(Key(model, remote.version))
        except CacheError as error:
            logger.warning("the newest version could not be had", extra={"model": model, "error": error.cause})

    def _go_back(self, older: Key) -> None:
        """What is newer is withdrawn: calls get this version, and the newer ones are unloaded.

        A model server serves the newest that it holds, so it must not keep them.
        """
        entry = self._cache.available(older)
        if entry is None:
            return
        for newer in self._cache.versions_of(older.model):
            if newer.key.version > older.version and self._cache.available(newer.key) is not None:
                logger.info("version withdrawn", extra={"model": str(newer.key)})
                self._cache.drain(newer)
                self._unload(newer)
        self.serve_as_newest(entry, self._cache.clock())


def _numbered(version: str) -> int:
    """The number; one that no model has, if the text is not a version."""
    found = number(version, 19)
    return -1 if found is None else found
