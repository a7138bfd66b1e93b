"""What the parts of a cache share: its books, its files, and the way in which a change is made known."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mesh.model_cache.books.back_off import BackOff
from mesh.model_cache.books.ledger import Ledger
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import Entry, ModelState
from mesh.model_cache.change_signal import ChangeSignal
from mesh.model_cache.errors import Busy
from mesh.model_cache.feed import Feed, residency_of
from mesh.model_cache.files import Files
from mesh.model_cache.settings import CacheSettings

logger = logging.getLogger(__name__)

Offload = Callable[..., Awaitable[Any]]
"""Runs a blocking function elsewhere: `asyncio.to_thread`, or something of its kind."""


@dataclass
class CacheState:
    """The state of one node's cache. Everything here belongs to one event loop."""

    settings: CacheSettings
    files: Files
    ledger: Ledger
    clock: Callable[[], float]
    offload: Offload
    quarantine: BackOff[Key]
    bell: ChangeSignal = field(default_factory=ChangeSignal)
    feed: Feed = field(default_factory=Feed)
    stopped: bool = False
    """Nothing changes any more."""

    def move(self, entry: Entry, state: ModelState, cause: str = "") -> None:
        """Take an entry to another state, and tell everybody."""
        entry.move(state, self.clock(), cause)
        self.announce(entry.key.model)
        self.bell.ring()

    def announce(self, model: str) -> None:
        """Publish how a model stands."""
        self.feed.publish(model, residency_of(self.ledger.of_model(model)))

    def memory_estimate(self, model: str, disk_bytes: int) -> int:
        """Bytes of memory to expect of a model before it is measured."""
        declared = self.settings.memory_bytes.get(model)
        return int(disk_bytes * self.settings.memory_factor) if declared is None else declared

    async def remove_files(self, entry: Entry) -> None:
        """Free the disk of a model that is not in the model server. Its entry is `leaving` until that is done."""
        entry.leaving = True
        others = (other for other in self.ledger.of_model(entry.key.model) if other is not entry)
        alone = not any(other.disk_bytes or other.state is not ModelState.ABSENT for other in others)
        try:
            self.files.discard(entry.key, whole_model=alone)
            await self.offload(self.files.sweep)
        except OSError as error:
            logger.error("files of a model cannot be removed", extra={"model": str(entry.key), "error": str(error)})
        entry.disk_bytes = entry.fetched_bytes = 0
        entry.complete = entry.leaving = False
        entry.digest = ""
        self.ledger.forget_if_empty(entry)
        self.bell.ring()

    def is_going(self, key: Key) -> bool:
        """Whether that model, or its files, are on their way out."""
        entry = self.ledger.entries.get(key)
        return entry is not None and (entry.state is ModelState.DRAINING or entry.leaving)

    async def settled(self, key: Key) -> None:
        """Return once nothing of that key is on its way out. Raises Busy when the node is shut down before that."""
        while self.is_going(key):
            if self.stopped:
                raise Busy("This node is being shut down.")
            await self.bell.wait()
