"""The model server as the cache sees it: there or away, and what it holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mesh.model_cache.core import Core
from mesh.model_cache.errors import Busy
from mesh.model_cache.loader import Loader, ServerAway
from mesh.model_cache.names import Key
from mesh.model_cache.states import Entry, State

log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0  # the longest wait for one answer

Met = Callable[[frozenset[Key]], Awaitable[None]]
Lost = Callable[[list[Entry]], None]


class ServerWatch:
    """Looks at the model server again and again, and at once when somebody suspects it.

    `met` is told once what it held at the first look, `lost` each time which available models it has lost (it was
    restarted), most recently used first. A server that does not answer loses nothing: it may only be slow.
    """

    def __init__(self, core: Core, loader: Loader, met: Met, lost: Lost) -> None:
        self._core = core
        self._loader = loader
        self._met = met
        self._lost = lost
        self._known = asyncio.Event()
        self._up = asyncio.Event()
        self._suspected = asyncio.Event()
        self.cause = "not asked yet"
        """Why the server is away; empty while it is there."""

    def suspect(self) -> None:
        """A call to the model server failed in a way that a restart would explain."""
        self._suspected.set()

    def gone(self) -> None:
        """The model server did not answer: nothing is loaded before it was looked at again."""
        self._up.clear()
        self.suspect()

    async def known(self) -> None:
        """Return once it is known what the server held at the start. Raises Busy after `server_seconds`."""
        await self._within(self._known)

    async def up(self) -> None:
        """Return once the server answers. Raises Busy after `server_seconds`."""
        await self._within(self._up)

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            self._suspected.clear()
            try:
                await self._look()
            except Exception:  # a mistake in a loader must not blind the node for ever
                log.exception("the look at the model server failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._core.settings.poll_seconds):
                    await self._suspected.wait()
                    # Suspicion comes from every call that fails; one look in a while answers all of them.
                    await asyncio.sleep(self._core.settings.poll_seconds / 10)

    async def _look(self) -> None:
        begun = self._core.clock()
        entries = self._core.ledger.entries
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                held = await self._loader.held(tuple(entries))
        except (ServerAway, TimeoutError) as error:
            if not self.cause or not self._known.is_set():
                log.warning("model server is away", extra={"error": str(error)})
            self.cause = str(error) or "It does not answer."
            self._up.clear()
            return
        if not self._known.is_set():
            await self._met(held)
            self._known.set()
        else:
            # What became available while we asked may not be in the answer.
            lost = [
                entry
                for entry in self._core.ledger.newest_first()
                if entry.state is State.AVAILABLE and entry.since < begun and entry.key not in held
            ]
            if lost:
                log.warning("model server was restarted and lost models", extra={"models": len(lost)})
                self._lost(lost)
        self.cause = ""
        self._up.set()

    async def _within(self, event: asyncio.Event) -> None:
        if event.is_set():
            return
        try:
            async with asyncio.timeout(self._core.settings.server_seconds):
                await event.wait()
        except TimeoutError:
            raise Busy("The model server of this node is away.", self.cause) from None
