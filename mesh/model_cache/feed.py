"""Telling others what is resident: a full snapshot first, then changes."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.residency.state import Residency

_RESIDENCY = {
    ModelState.ABSENT: Residency.ABSENT,
    ModelState.FETCHING: Residency.LOADING,
    ModelState.LOADING: Residency.LOADING,
    ModelState.AVAILABLE: Residency.AVAILABLE,
    ModelState.DRAINING: Residency.DRAINING,
    ModelState.FAILED: Residency.FAILED,
}
_WORTH = (Residency.AVAILABLE, Residency.LOADING, Residency.DRAINING, Residency.FAILED)


@dataclass(frozen=True, slots=True)
class ResidencyReport:
    """What is resident, by model name. With `full` exactly these models are on the node, otherwise these changed.

    `leaving`: the node has announced that it goes. What it holds it still answers for.
    """

    models: Mapping[str, Residency]
    full: bool = False
    leaving: bool = False


def residency_of(entries: Iterable[CacheEntry]) -> Residency:
    """How one model stands, of which these are the versions: as the version that is nearest to answering calls."""
    states = {_RESIDENCY[entry.state] for entry in entries}
    return next((state for state in _WORTH if state in states), Residency.ABSENT)


class Feed:
    """Hands changes to every subscriber. One that reads slowly gets the last state of each model, never a backlog."""

    def __init__(self) -> None:
        self._pending: list[tuple[dict[str, Residency], asyncio.Event]] = []
        self._known: dict[str, Residency] = {}
        self.leaving = False
        """The node goes."""

    def publish(self, model: str, state: Residency) -> None:
        """The model is in that state now. Telling the same again costs nothing."""
        if self._known.get(model, Residency.ABSENT) == state:
            return
        if state is Residency.ABSENT:
            del self._known[model]
        else:
            self._known[model] = state
        for changes, changed in self._pending:
            changes[model] = state
            changed.set()

    def leave(self) -> None:
        """The node goes: everybody is told, and so are those who ask later."""
        self.leaving = True
        for _, changed in self._pending:
            changed.set()

    def state(self, model: str) -> Residency:
        """How one model stands."""
        return self._known.get(model, Residency.ABSENT)

    def now(self) -> ResidencyReport:
        """Everything that is known."""
        return ResidencyReport(MappingProxyType(dict(self._known)), full=True, leaving=self.leaving)

    async def subscribe(self) -> AsyncGenerator[ResidencyReport, None]:
        """The full report, then changes as they come; never ends by itself."""
        changes: dict[str, Residency] = {}
        changed = asyncio.Event()
        subscriber = (changes, changed)
        self._pending.append(subscriber)
        try:
            yield self.now()
            while True:
                await changed.wait()
                changed.clear()
                report = ResidencyReport(MappingProxyType(dict(changes)), leaving=self.leaving)
                changes.clear()
                yield report
        finally:
            self._pending = [each for each in self._pending if each is not subscriber]
