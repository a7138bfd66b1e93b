"""A store and a model server in memory, which do as the test says and write down what must never happen.

They do not raise then: the manager would take that for one more failure of a store or a server.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import Need
from mesh.model_cache.loaders.loader import Loaded, LoadFailed, ServerAway
from mesh.model_cache.stores.store import Remote, StoreError


class MemoryStore:
    """Fetches take `seconds`, or until the test ends them where `manual` is set."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.manual = False
        self.remotes: dict[str, dict[str, Remote]] = {}
        """By model and the name of the version's folder."""
        self.listed: Counter[str] = Counter()
        self.fetched: Counter[Key] = Counter()
        self.fetching: dict[Key, asyncio.Future[None]] = {}
        self.error: StoreError | None = None
        self.fetch_error: StoreError | None = None
        self.most_at_once = 0
        self.mistakes: list[str] = []

    def put(
        self,
        model: str,
        version: int = 1,
        size: int = 100,
        digest: str = "",
        folder: str = "",
        fault: str = "",
        parts: Sequence[Need | str] = (),
    ) -> Remote:
        """With `parts` it is an ensemble, of whose files config.pbtxt is one."""
        needs = tuple(Need(part) if isinstance(part, str) else part for part in parts)
        remote = Remote(model, version, size, digest or f"{model}-{folder or version}-{size}", folder, fault, needs)
        self.remotes.setdefault(model, {})[folder or str(version)] = remote
        return remote

    def remove(self, model: str, version: int) -> None:
        del self.remotes[model][str(version)]

    async def versions(self, model: str) -> tuple[Remote, ...]:
        self.listed[model] += 1
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return tuple(self.remotes.get(model, {}).values())

    async def fetch(self, remote: Remote, target: Path, progress: Callable[[int], None]) -> None:
        key = Key(remote.model, remote.version)
        if key in self.fetching:
            self.mistakes.append(f"two fetches of {key} at once")
        if target.exists():
            self.mistakes.append(f"a fetch over what {target} holds")
        self.fetched[key] += 1
        self.fetching[key] = asyncio.get_running_loop().create_future()
        self.most_at_once = max(self.most_at_once, len(self.fetching))
        try:
            progress(remote.size_bytes // 2)
            if self.manual:
                await self.fetching[key]
            else:
                await asyncio.sleep(self.seconds)
            if self.fetch_error is not None:
                raise self.fetch_error
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir()
            (target / "weights").write_bytes(b"w" * remote.size_bytes)
            if remote.needs:
                steps = (f'step [{{ model_name: "{n.model}" model_version: {n.version or -1} }}]' for n in remote.needs)
                config = f'platform: "ensemble" ensemble_scheduling {{ {" ".join(steps)} }}'
                (target.parent / "config.pbtxt").write_text(config)
            progress(remote.size_bytes)
        finally:
            del self.fetching[key]


class MemoryServer:
    """A model server that holds at most what the test says, and whose process can die."""

    def __init__(self, seconds: float = 2.0, limit: float = float("inf")) -> None:
        self.seconds = seconds
        self.limit = limit
        self.manual = False
        self.held_now: set[Key] = set()
        self.alive = True
        self.loads: list[Key] = []
        self.unloads: list[Key] = []
        self.calls = 0
        self.loading: dict[Key, asyncio.Future[None]] = {}
        self.broken: dict[str, str] = {}
        self.reads_zeros = True
        self.stubborn: set[Key] = set()
        self.batchers: dict[str, str] = {}
        self.memory: dict[str, int] = {}
        self.needs: dict[str, set[str]] = {}
        """What each model calls: any version will do, and it must be there for as long as the model is."""
        self.may_unload: Callable[[Key], bool] = lambda key: True
        self.mistakes: list[str] = []
        self._disconnected = asyncio.Event()

    async def reads(self, folder: str) -> bool:
        if folder == "0" or not folder.startswith("0"):
            return True
        self._answer()
        return self.reads_zeros

    async def load(self, key: Key, folder: Path) -> Loaded:
        self.calls += 1
        if key in self.loading:
            self.mistakes.append(f"two loads of {key} at once")
        self._answer()
        if not (folder / str(key.version) / "weights").exists():
            self.mistakes.append(f"a load of {key} without its files")
        for part in self.needs.get(key.model, ()):
            if part not in {held.model for held in self.held_now}:
                self.mistakes.append(f"a load of {key} without {part}")
        self.loads.append(key)
        self.loading[key] = asyncio.get_running_loop().create_future()
        if len(self.held_now.union(self.loading)) > self.limit:
            self.mistakes.append(f"more models than fit: {sorted(self.held_now)} and {sorted(self.loading)}")
        try:
            if self.manual:
                await self.loading[key]
            else:
                await asyncio.wait((self.loading[key],), timeout=self.seconds)
                if self.loading[key].done():
                    self.loading[key].result()
        finally:
            del self.loading[key]
        if key.model in self.broken:
            raise LoadFailed(self.broken[key.model])
        self.held_now.add(key)
        return Loaded(self.memory.get(key.model))

    async def unload(self, key: Key, folder: Path) -> None:
        self.calls += 1
        if not self.may_unload(key):
            self.mistakes.append(f"an unload of {key} while calls use it")
        await asyncio.sleep(0.1)
        self._answer()
        if key in self.stubborn:
            raise LoadFailed("not now")
        self.unloads.append(key)
        self.held_now.discard(key)
        left = {held.model for held in self.held_now}
        for user in left:
            if key.model in self.needs.get(user, ()) and key.model not in left:
                self.mistakes.append(f"an unload of {key}, which {user} needs")

    async def held(self, known: Iterable[Key]) -> frozenset[Key]:
        await asyncio.sleep(0.01)
        self._answer()
        return frozenset(self.held_now)

    async def batcher(self, key: Key) -> str:
        return self.batchers.get(key.model, "")

    async def lost(self) -> None:
        await self._disconnected.wait()
        self._disconnected.clear()

    def disconnect(self) -> None:
        self._disconnected.set()

    def die(self) -> None:
        self.alive = False
        self.disconnect()
        self.held_now.clear()
        for load in self.loading.values():
            if not load.done():
                load.set_exception(ServerAway("connection reset"))

    def start(self) -> None:
        self.alive = True

    def _answer(self) -> None:
        if not self.alive:
            raise ServerAway("connection refused")
