"""Looks at this process and at its peers again and again, for as long as somebody looks at the page; then never."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Protocol

from ext_proc.admin.documents import StatusDocument
from ext_proc.admin.ui.changes import Known, Update
from ext_proc.errors import TbmsError

logger = logging.getLogger(__name__)

MAX_PAGES = 8
"""Streams at once."""
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""What one process may come to, written as an event."""
_PEER_SECONDS = 3.0  # for a peer to answer
_ASKED_AT_ONCE = 8
_SHARE = 0.05  # of a core, for looking: the calls come first
_LONGEST_PAUSE = 10.0
_WHY_SHOWN = 300  # characters of a peer's words
_DRAINING = b"event: draining\ndata:\n\n"


class Peer(Protocol):
    """The admin port of another process (`ext_proc.admin.client.AdminPort`), which is opened and closed."""

    @property
    def name(self) -> str:
        """Its address."""

    async def __aenter__(self) -> "Peer": ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def status(self) -> StatusDocument:
        """What it says of itself. Raises TbmsError."""


class TooManyPages(TbmsError):
    """No further page can be told."""


class Watching:
    """`own` is the /status of this process. `seconds` between two looks, or more where a look takes long."""

    def __init__(
        self,
        own: Callable[[], StatusDocument],
        peers: Callable[[], Sequence[Peer]],
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._own = own
        self._open = peers
        self._seconds = seconds
        self._clock = clock
        self._pages = 0
        self._wanted = asyncio.Event()
        self._turn = asyncio.Condition()
        self._number = 0
        self._closed = False
        self._whole: list[bytes] = []
        self._since: list[bytes] = []

    @property
    def closed(self) -> bool:
        """Whether no page is told anything any more."""
        return self._closed

    async def run(self) -> None:
        """Looks, while there are pages. Runs until cancelled."""
        while True:
            await self._wanted.wait()
            async with AsyncExitStack() as stack:
                peers = [await stack.enter_async_context(peer) for peer in self._open()]
                known = [Known(""), *(Known(peer.name) for peer in peers)]
                while self._pages:
                    try:
                        spent = await self._look(known, peers)
                    except Exception:  # what only shows may not end what serves
                        logger.exception("the dashboard's pages cannot be brought up to date")
                        spent = _LONGEST_PAUSE
                    await asyncio.sleep(max(self._seconds, min(_LONGEST_PAUSE, spent / _SHARE)))
            self._whole, self._since = [], []

    async def close(self) -> None:
        """Ends every stream, and lets no other begin."""
        self._closed = True
        async with self._turn:
            self._turn.notify_all()

    @contextmanager
    def page(self) -> Iterator[None]:
        """One page looks, for the length of the block. Raises TooManyPages."""
        if self._pages >= MAX_PAGES:
            raise TooManyPages(f"{MAX_PAGES} pages are being brought up to date by this process already. Close one.")
        self._pages += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._pages -= 1
            if not self._pages:
                self._wanted.clear()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """What one page is told, until `close`. One that is slow misses updates, and is then told everything."""
        seen = 0  # looks are counted from 1 on
        while await self._looked_since(seen):
            events = self._since if seen and self._number == seen + 1 else self._whole
            seen = self._number
            for event in events:
                yield event
        yield _DRAINING

    async def _looked_since(self, seen: int) -> bool:
        async with self._turn:
            await self._turn.wait_for(lambda: self._closed or (bool(self._whole) and self._number > seen))
        return not self._closed

    async def _look(self, known: Sequence[Known], peers: Sequence[Peer]) -> float:
        """Asks everybody; returns the seconds of CPU that went by, those of calls in the meantime included."""
        gate = asyncio.Semaphore(_ASKED_AT_ONCE)
        began = time.thread_time()
        known[0].see(round(self._clock(), 3), self._own())
        async with asyncio.TaskGroup() as tasks:
            for each, peer in zip(known[1:], peers, strict=True):
                tasks.create_task(self._ask(each, peer, gate))
        whole, since = [], []
        for each in known:
            whole.append(_event(each.whole()))
            since.append(_event(each.since()))
            await asyncio.sleep(0)  # the calls' turn
        async with self._turn:
            self._whole, self._since = whole, since
            self._number += 1
            self._turn.notify_all()
        return time.thread_time() - began

    async def _ask(self, known: Known, peer: Peer, gate: asyncio.Semaphore) -> None:
        async with gate:
            try:
                async with asyncio.timeout(_PEER_SECONDS):
                    status = await peer.status()
            except TimeoutError:
                known.miss(round(self._clock(), 3), "no answer in time")
            except TbmsError as error:
                known.miss(round(self._clock(), 3), str(error)[:_WHY_SHOWN])
            else:
                known.see(round(self._clock(), 3), status)


def _event(update: Update | None) -> bytes:
    """As server-sent event: `event: update`, the JSON in one line of data."""
    assert update is not None
    try:
        text = json.dumps(update, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = _unshown(update, "its status has numbers that JSON has not")
    if len(text) > MAX_EVENT_BYTES:
        text = _unshown(update, "its status is too large to be shown")
    return f"event: update\ndata: {text}\n\n".encode()


def _unshown(update: Update, why: str) -> str:
    return json.dumps({"address": update["address"], "at": update["at"], "away": why})
