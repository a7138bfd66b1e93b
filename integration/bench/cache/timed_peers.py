"""A store and a model server that only take time, for caches in virtual time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from integration.bench.cache.trace import Weight
from mesh.model_cache.books.names import Key
from mesh.model_cache.loaders.loader import Loaded
from mesh.model_cache.stores.store import Remote

_UNLOAD_SECONDS = 0.05


class TimedStore:
    """Implements `mesh.model_cache.stores.store.Store`: a fetch takes its time and leaves an empty folder."""

    def __init__(self, shelf: Mapping[str, Weight]) -> None:
        self._shelf = shelf

    async def versions(self, model: str) -> tuple[Remote, ...]:
        """Every model has one."""
        return (Remote(model, 1, self._shelf[model].size_bytes, model),)

    async def fetch(self, remote: Remote, target: Path, progress: Callable[[int], None]) -> None:
        """See Store."""
        await asyncio.sleep(self._shelf[remote.model].fetch_seconds)
        target.mkdir(parents=True)
        progress(remote.size_bytes)


class TimedServer:
    """A `mesh.model_cache.loaders.loader.Loader`. Raises where it is asked to hold more than `slots` models."""

    def __init__(self, shelf: Mapping[str, Weight], slots: int) -> None:
        self._shelf = shelf
        self._slots = slots
        self._held: set[Key] = set()
        self.loads = 0
        """Begun since the start."""

    async def reads(self, folder: str) -> bool:
        """See Loader."""
        return True

    async def load(self, key: Key, folder: Path) -> Loaded:
        """See Loader."""
        self._held.add(key)
        if len(self._held) > self._slots:
            raise AssertionError(f"{len(self._held)} models where {self._slots} have room")
        self.loads += 1
        await asyncio.sleep(self._shelf[key.model].load_seconds)
        return Loaded()

    async def unload(self, key: Key, folder: Path) -> None:
        """See Loader."""
        await asyncio.sleep(_UNLOAD_SECONDS)
        self._held.discard(key)

    async def held(self, known: Iterable[Key]) -> frozenset[Key]:
        """See Loader."""
        return frozenset(self._held)

    async def batcher(self, key: Key) -> str:
        """See Loader."""
        return ""

    async def lost(self) -> None:
        """Never returns: this server is not lost."""
        await asyncio.get_running_loop().create_future()
