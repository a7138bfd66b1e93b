"""Loading and unloading models: the states of `LoadedModels`, driven by tasks and threads.

A model's versions converge to those that its policy chooses, one change at a time for each model. Who asks for a load
that is under way shares it.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mesh.model_server.errors import ServingError, StatusCode
from mesh.model_server.loaded_models import LoadedModel, LoadedModels, ModelVersion, VersionState
from mesh.model_server.repository import MODEL_FILE, Repository, VersionPolicy, knobs, versions
from mesh.model_server.runtime import OnnxModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model of a full list of what is to be served."""

    name: str
    base: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)


class Failures(ServingError):
    """A model did not become available: the failed versions and their causes, for each API to word."""

    def __init__(self, name: str, causes: Sequence[tuple[int, ServingError]]) -> None:
        super().__init__(StatusCode.UNKNOWN, "; ".join(f"version {number}: {cause}" for number, cause in causes))
        self.name = name
        self.causes = causes


class Models:
    """The models of one server. All methods belong to one event loop; the work is done in threads."""

    def __init__(self, repository: Repository, *, load_delay_ms: float = 0.0) -> None:
        self.repository = repository
        self.loaded = LoadedModels()
        self._load_delay = load_delay_ms / 1000
        self._loaders = ThreadPoolExecutor(2, thread_name_prefix="load")
        self._loading: dict[tuple[str, VersionPolicy | None], asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._applying = asyncio.Lock()

    async def load(self, name: str, policy: VersionPolicy | None = None) -> None:
        """Load a model of the repository (again, if its files changed); concurrent calls share one load.

        With a policy the versions that it chooses are served from then on; without one a model that is served keeps
        its policy, and another gets the default. Raises ServingError NOT_FOUND if there is no such model or it has no
        versions, Failures if a version does not load.
        """
        entry = self.loaded.by_name.get(name)
        base = self.repository.base(name)
        if entry is None or not entry.available() or policy is not None:
            if base is None:
                raise ServingError(StatusCode.NOT_FOUND, f"no model '{name}' in the repository")
            entry = self._entry(Wanted(name, base, VersionPolicy() if policy is None else policy))
        task = self._loading.get((name, policy))
        if task is None:
            task = self._loading[name, policy] = asyncio.create_task(self._converge(entry))
            task.add_done_callback(lambda done: self._loaded(name, policy, done))
        await asyncio.shield(task)

    def _loaded(self, name: str, policy: VersionPolicy | None, task: asyncio.Task[None]) -> None:
        del self._loading[name, policy]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("model did not load", extra={"model": name, "error": str(error)})

    async def unload(self, name: str) -> None:
        """Refuse new calls for a model and drop it once those in flight have ended. Unknown names are no error."""
        entry = self.loaded.by_name.get(name)
        if entry is None:
            return
        async with self._lock(name):
            for version in entry.available():
                self._retire(version)

    async def apply(self, wanted: Sequence[Wanted]) -> None:
        """Serve exactly these models: load what is missing, then unload what is not listed.

        Raises the first model's failure, after every other model has been seen to.
        """
        async with self._applying:
            entries = [self._entry(each) for each in wanted]
            results = await asyncio.gather(*(self._converge(entry) for entry in entries), return_exceptions=True)
            listed = {each.name for each in wanted}
            for name in [name for name in self.loaded.by_name if name not in listed]:
                await self.unload(name)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _entry(self, wanted: Wanted) -> LoadedModel:
        entry = self.loaded.by_name.setdefault(wanted.name, LoadedModel(wanted.name, wanted.base))
        if entry.base != wanted.base:
            for version in entry.available():
                version.stamp = None  # of other files: load it again
        entry.base, entry.policy = wanted.base, wanted.policy
        return entry

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _converge(self, entry: LoadedModel) -> None:
        """Make the served versions those that the policy chooses. The old ones serve until the new ones do."""
        async with self._lock(entry.name):
            try:
                present = await asyncio.to_thread(versions, entry.base)
            except OSError as error:
                raise ServingError(
                    StatusCode.NOT_FOUND, f"Could not find base path {entry.base} for servable {entry.name}"
                ) from error
            chosen = entry.policy.choose(present)
            if not chosen:
                raise ServingError(
                    StatusCode.NOT_FOUND, f"No versions of servable {entry.name} found under base path {entry.base}"
                )
            loads = await asyncio.gather(*(self._load_version(entry, number, present[number]) for number in chosen))
            causes = [(number, error) for number, error in zip(chosen, loads, strict=True) if error is not None]
            if causes:
                raise Failures(entry.name, causes)
            for version in entry.available():
                if version.number not in chosen:
                    self._retire(version)

    async def _load_version(self, entry: LoadedModel, number: int, folder: Path) -> ServingError | None:
        """Load one version unless it is loaded. The error, if any, is also kept in the version's state."""
        before = entry.versions.get(number)
        serving = before is not None and before.state is VersionState.AVAILABLE
        loop = asyncio.get_running_loop()
        version = ModelVersion(entry.name, number, VersionState.LOADING)
        try:
            version.stamp = await asyncio.to_thread(_stamp, folder)
            if before is not None and serving and before.stamp == version.stamp:
                return None
            if not serving:
                entry.versions[number] = version
            version.knobs = await asyncio.to_thread(knobs, entry.base)
            await asyncio.sleep(self._load_delay + version.knobs.load_delay_ms / 1000)
            version.model = await loop.run_in_executor(self._loaders, OnnxModel, folder / MODEL_FILE)
        except ServingError as error:
            version.error = error
            version.state = VersionState.END
            if not serving:
                entry.versions[number] = version
            return error
        version.state = VersionState.AVAILABLE
        entry.versions[number] = version
        if before is not None and serving:
            self._retire(before)
        logger.info("model loaded", extra={"model": entry.name, "version": number})
        return None

    def _retire(self, version: ModelVersion) -> None:
        def drop() -> None:
            version.model = None
            version.state = VersionState.END
            logger.info("model unloaded", extra={"model": version.name, "version": version.number})

        version.state = VersionState.UNLOADING
        version.when_idle(drop)

    async def close(self) -> None:
        """Give up loads that are under way, and wait for the threads."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._loaders.shutdown)


def _stamp(folder: Path) -> tuple[int, int]:
    try:
        status = (folder / MODEL_FILE).stat()
    except OSError as error:
        raise ServingError(StatusCode.NOT_FOUND, f"Could not find {MODEL_FILE} in {folder}") from error
    return status.st_mtime_ns, status.st_size
