"""The stages of a load, each with the time that it took: what is told of a load when it has ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import CacheError
from mesh.trace_context import TraceContext

MOST_TRACED = 129
"""Traced calls of one load that are remembered: the first, and as many as a span has links."""


class StageName(StrEnum):
    """What a load does, in this order."""

    ROOM = "room"
    """It waits until the models that make room for it are gone."""
    FETCH = "fetch"
    """Its files come from the store."""
    NEEDS = "needs"
    """It waits for the models that it needs."""
    SERVER = "server"
    """The model server loads it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, in seconds of the cache's clock. `failed`: the load has ended with it."""

    name: StageName
    begun: float
    ended: float
    failed: bool


class Stages:
    """The stages of one load so far. `clock` is the cache's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.passed: list[Stage] = []

    @contextmanager
    def at(self, name: StageName) -> Iterator[None]:
        """The load is at that stage for the length of the block."""
        begun, failed = self._clock(), True
        try:
            yield
            failed = False
        finally:
            self.passed.append(Stage(name, begun, self._clock(), failed))


@dataclass(frozen=True, slots=True)
class LoadEnd:
    """A load that has ended, from the first call for the model on; times in seconds of the cache's clock.

    `error` is None where the model is there. `traced` are the spans of calls that have waited for it, in the order in
    which they came; of many, the first `MOST_TRACED`.
    """

    key: Key
    begun: float
    ended: float
    stages: tuple[Stage, ...]
    error: CacheError | None
    traced: tuple[TraceContext, ...]
