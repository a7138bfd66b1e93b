"""The health of the node's model server as the cache sees it: whether it answers, and whether it holds what it held."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.change_signal import ChangeSignal
from mesh.model_cache.errors import Busy
from mesh.model_cache.loaders.loader import Loader, ServerAway

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0  # the longest wait for one answer

Met = Callable[[frozenset[Key]], Awaitable[None]]
Lost = Callable[[list[CacheEntry]], None]


class ServerState(Enum):
    """What the last look and the connection tell of the model server."""

    UNKNOWN = auto()  # it has never answered: nothing is loaded yet
    UP = auto()  # it answered the last look
    SILENT = auto()  # it does not answer, and may only be slow: resident models are used on, nothing is loaded
    UNVERIFIED = auto()  # its connection has ended: it may come back empty, so calls wait for the next look
    AWAY = auto()  # its connection has ended, and it does not answer: calls are refused


class ServerHealth:
    """Looks at the model server every `poll_seconds`, and at once when somebody suspects it.

    Suspicion comes from every call that fails; one look answers all of them. A tenth of `poll_seconds` passes between
    two looks, twice as long after each suspicion that was wrong, so that a server that answers 503 for reasons of its
    own is looked at no more often than any other.
    """

    def __init__(self, cache: CacheState, loader: Loader) -> None:
        self._cache = cache
        self._loader = loader
        self._state = ServerState.UNKNOWN
        self._changes = ChangeSignal()
        self._suspected = asyncio.Event()
        self._disconnected = asyncio.Event()  # since the last look began
        self.verified = True
        """Whether the models that the books call available can be used: not in UNVERIFIED and AWAY."""
        self.cause = "not asked yet"
        """Why the server is away; empty while it answers."""
        self.on_change: Callable[[], None] = lambda: None
        """Told when `verified` may have changed."""

    def suspect(self) -> None:
        """A call to the model server failed in a way that a restart would explain."""
        self._suspected.set()

    def gone(self) -> None:
        """The model server did not answer a load: nothing is loaded before it has been looked at again."""
        if self._state is ServerState.UP:
            self._enter(ServerState.SILENT)
        self.suspect()

    async def wait_verified(self) -> None:
        """Return once the server has been looked at since its connection ended. Raises Busy if it does not answer."""
        while self._state is ServerState.UNVERIFIED:
            await self._changes.wait()
        if self._state is ServerState.AWAY:
            raise Busy("The model server of this node is away.", self.cause)

    async def wait_known(self) -> None:
        """Return once it is known what the server held at the start. Raises Busy after `server_seconds`."""
        await self._wait_while(lambda: self._state is ServerState.UNKNOWN)

    async def wait_up(self) -> None:
        """Return once the server answers. Raises Busy after `server_seconds`."""
        await self._wait_while(lambda: self._state is not ServerState.UP)

    async def follow(self) -> None:
        """Take the server for unverified whenever its connection ends, until cancelled."""
        while True:
            await self._loader.lost()
            self._disconnected.set()
            if self._state is not ServerState.UNKNOWN:
                self._enter(ServerState.UNVERIFIED)
            self.suspect()

    async def run(self, met: Met, lost: Lost) -> None:
        """Look, until cancelled.

        `met` is told once what the server held at the first look, `lost` each time which available models it has lost
        (it was restarted), most recently used first.
        """
        longest = self._cache.settings.poll_seconds
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
                if not self.verified:
                    self._looked(answered=False)
            if self._disconnected.is_set():
                continue
            pause = min(2 * pause, longest) if suspected and well else longest / 10
            await _wait(self._disconnected, pause)
            if self.verified:
                await _wait(self._suspected, longest - pause)

    async def _look(self, met: Met, lost: Lost) -> bool:
        """Whether the server is there, and holds what it held."""
        begun = self._cache.clock()
        is_first = self._state is ServerState.UNKNOWN
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                held = await self._loader.held(tuple(entry.key for entry in self._cache.entries()))
        except (ServerAway, TimeoutError) as error:
            if not self.cause or is_first:
                logger.warning("model server is away", extra={"error": str(error)})
            self.cause = str(error) or "It does not answer."
            self._looked(answered=False)
            return False
        missing: list[CacheEntry] = []
        if is_first:
            await met(held)
        else:
            # What became available while we asked may not be in the answer.
            missing = [
                entry
                for entry in self._cache.entries()
                if entry.state is ModelState.AVAILABLE and entry.since < begun and entry.key not in held
            ]
            if missing:
                logger.warning("model server was restarted and lost models", extra={"models": len(missing)})
                lost(missing)
        self.cause = ""
        self._looked(answered=True)
        return not missing

    def _looked(self, answered: bool) -> None:
        """The state after a look; what was seen before the connection ended proves nothing."""
        if answered:
            self._enter(ServerState.UNVERIFIED if self._disconnected.is_set() else ServerState.UP)
        elif self._state is ServerState.UP:
            self._enter(ServerState.SILENT)
        elif self._state is ServerState.UNVERIFIED and not self._disconnected.is_set():
            self._enter(ServerState.AWAY)

    def _enter(self, state: ServerState) -> None:
        self._state = state
        self.verified = state not in (ServerState.UNVERIFIED, ServerState.AWAY)
        self._changes.notify()
        self.on_change()

    async def _wait_while(self, blocked: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(self._cache.settings.server_seconds):
                while blocked():
                    await self._changes.wait()
        except TimeoutError:
            raise Busy("The model server of this node is away.", self.cause) from None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
