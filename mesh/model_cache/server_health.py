"""The model server as the cache sees it: there or away, and what it holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import Entry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy
from mesh.model_cache.loaders.loader import Loader, ServerAway

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0  # the longest wait for one answer

Met = Callable[[frozenset[Key]], Awaitable[None]]
Lost = Callable[[list[Entry]], None]


class ServerHealth:
    """Looks at the model server every `poll_seconds`, and at once when somebody suspects it.

    Suspicion comes from every call that fails; one look answers all of them. A tenth of `poll_seconds` passes between
    two looks, twice as long after each suspicion that was wrong, so that a server that answers 503 for reasons of its
    own is looked at no more often than any other.

    A server that does not answer loses nothing: it may only be slow. But one whose connection has ended is doubted: it
    may come back empty, before anybody has looked.
    """

    def __init__(self, core: CacheState, loader: Loader) -> None:
        self._core = core
        self._loader = loader
        self._known = asyncio.Event()
        self._up = asyncio.Event()
        self._suspected = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._judged = asyncio.Event()
        self.doubted = False
        """It is not known whether the server still holds what it held."""
        self.cause = "not asked yet"
        """Why the server is away; empty while it is there."""

    def suspect(self) -> None:
        """A call to the model server failed in a way that a restart would explain."""
        self._suspected.set()

    def gone(self) -> None:
        """The model server did not answer: nothing is loaded before it was looked at again."""
        self._up.clear()
        self.suspect()

    async def sure(self) -> None:
        """Return once the server has been looked at since its connection ended. Raises Busy if it does not answer."""
        if self.doubted:
            await self._judged.wait()
        if self.doubted:
            raise Busy("The model server of this node is away.", self.cause)

    async def known(self) -> None:
        """Return once it is known what the server held at the start. Raises Busy after `server_seconds`."""
        await self._within(self._known)

    async def up(self) -> None:
        """Return once the server answers. Raises Busy after `server_seconds`."""
        await self._within(self._up)

    async def follow(self) -> None:
        """Doubt the server whenever its connection ends, until cancelled."""
        while True:
            await self._loader.lost()
            self.doubted = True
            self._judged.clear()
            self._disconnected.set()
            self.suspect()

    async def run(self, met: Met, lost: Lost) -> None:
        """Look, until cancelled.

        `met` is told once what the server held at the first look, `lost` each time which available models it has lost
        (it was restarted), most recently used first.
        """
        longest = self._core.settings.poll_seconds
        pause = longest / 10
        while True:
            suspected = self._suspected.is_set()
            self._suspected.clear()
            self._disconnected.clear()
            well = False
            try:
                well = await self._look(met, lost)
            except Exception:  # a mistake in a loader must not blind the node for ever
                logger.exception("the look at the model server failed")
            if self._disconnected.is_set():
                continue  # what was seen may be what was there before
            self.doubted = self.doubted and bool(self.cause)
            self._judged.set()
            pause = min(2 * pause, longest) if suspected and well else longest / 10
            await _wait(self._disconnected, pause)
            if not self.doubted:
                await _wait(self._suspected, longest - pause)

    async def _look(self, met: Met, lost: Lost) -> bool:
        """Whether the server is there, and holds what it held."""
        begun = self._core.clock()
        entries = self._core.ledger.entries
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                held = await self._loader.held(tuple(entries))
        except (ServerAway, TimeoutError) as error:
            if not self.cause or not self._known.is_set():
                logger.warning("model server is away", extra={"error": str(error)})
            self.cause = str(error) or "It does not answer."
            self._up.clear()
            return False
        missing: list[Entry] = []
        if not self._known.is_set():
            await met(held)
            self._known.set()
        else:
            # What became available while we asked may not be in the answer.
            missing = [
                entry
                for entry in self._core.ledger.newest_first()
                if entry.state is ModelState.AVAILABLE and entry.since < begun and entry.key not in held
            ]
            if missing:
                logger.warning("model server was restarted and lost models", extra={"models": len(missing)})
                lost(missing)
        self.cause = ""
        self._up.set()
        return not missing

    async def _within(self, event: asyncio.Event) -> None:
        if event.is_set():
            return
        try:
            async with asyncio.timeout(self._core.settings.server_seconds):
                await event.wait()
        except TimeoutError:
            raise Busy("The model server of this node is away.", self.cause) from None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
