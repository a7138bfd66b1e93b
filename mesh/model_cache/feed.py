"""The residency feed: what is resident on this node, as a full report first, then as changes."""

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
_NEAREST = (Residency.AVAILABLE, Residency.LOADING, Residency.DRAINING, Residency.FAILED)


@dataclass(frozen=True, slots=True)
class ResidencyReport:
    """Residency by model name. With `full` exactly these models are on the node, otherwise these have changed.

    `leaving`: the node has announced that it goes. What it holds it still answers for.
    """

    models: Mapping[str, Residency]
    full: bool = False
    leaving: bool = False


def residency_of(entries: Iterable[CacheEntry]) -> Residency:
    """The residency of a model with these versions: that of the version which is nearest to answering calls."""
    states = {_RESIDENCY[entry.state] for entry in entries}
    return next((state for state in _NEAREST if state in states), Residency.ABSENT)


class Feed:
    """Hands changes to every subscriber. A slow one gets the last state of each model, never a backlog."""

    def __init__(self) -> None:
        # Of each subscriber: the changes that it has not read yet, and the event that there are some.
        self._pending: list[tuple[dict[str, Residency], asyncio.Event]] = []
        self._known: dict[str, Residency] = {}
        self.leaving = False
        """The node has announced that it goes."""

    def publish(self, model: str, state: Residency) -> None:
        """A model is in that state now. To publish the same again costs nothing."""
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
        """Announce that the node goes, to all subscribers and to those that come later."""
        self.leaving = True
        for _, changed in self._pending:
            changed.set()

    def state(self, model: str) -> Residency:
        """The residency of one model."""
        return self._known.get(model, Residency.ABSENT)

    def now(self) -> ResidencyReport:
        """The report of all models at this moment."""
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
