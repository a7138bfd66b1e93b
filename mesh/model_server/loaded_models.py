"""Which version of which model is in which state. No I/O, no clock, no tasks: `models.py` drives it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from mesh.model_server.errors import ServingError
from mesh.model_server.repository import Knobs, VersionPolicy
from mesh.model_server.runtime import OnnxModel
from mesh.model_server.statistics import Statistics


class VersionState(IntEnum):
    """The life of a version, in the numbers of TF Serving's ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(slots=True, eq=False)
class ModelVersion:
    """One version of a model. `model` is set while calls can be answered; `error` says why the last load failed.

    `stamp` tells whether the file on disk is still the one that was loaded.
    """

    name: str
    number: int
    state: VersionState = VersionState.START
    error: ServingError | None = None
    model: OnnxModel | None = None
    knobs: Knobs = field(default_factory=Knobs)
    stamp: tuple[int, int] | None = None
    statistics: Statistics = field(default_factory=Statistics)
    in_flight: int = 0
    _when_idle: list[Callable[[], None]] = field(default_factory=list)

    def acquire(self) -> None:
        """One more call uses this version."""
        self.in_flight += 1

    def release(self) -> None:
        """One call less. The last one out tells whoever waits to unload."""
        self.in_flight -= 1
        if self.in_flight == 0:
            waiting, self._when_idle = self._when_idle, []
            for callback in waiting:
                callback()

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once when no call is in flight: now, if there is none."""
        if self.in_flight == 0:
            callback()
        else:
            self._when_idle.append(callback)

    @contextmanager
    def lease(self) -> Iterator[OnnxModel]:
        """Use the model; it is not unloaded before the block ends."""
        if self.model is None:
            raise RuntimeError(f"version {self.number} of '{self.name}' is not available")
        self.acquire()
        try:
            yield self.model
        finally:
            self.release()


@dataclass(slots=True, eq=False)
class LoadedModel:
    """One model: where it lies, which versions are wanted, what became of them."""

    name: str
    base: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    versions: dict[int, ModelVersion] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    def available(self) -> list[ModelVersion]:
        """The versions that answer calls, ascending."""
        return [version for _, version in sorted(self.versions.items()) if version.state is VersionState.AVAILABLE]


class LoadedModels:
    """Every model that was ever asked to be loaded. One that is unloaded stays, with its last state."""

    def __init__(self) -> None:
        self.by_name: dict[str, LoadedModel] = {}

    def find(self, name: str, number: int | None = None) -> ModelVersion | None:
        """The version that answers a call: the named one, or the latest. None where it is not available."""
        entry = self.by_name.get(name)
        if entry is None:
            return None
        if number is None:
            available = entry.available()
            return available[-1] if available else None
        version = entry.versions.get(number)
        return version if version is not None and version.state is VersionState.AVAILABLE else None
