"""What a service manager does for a server that others have written: one that crashes is started again."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from integration.stack.process import Process, ProcessError

_LOOK = 0.1
_STARTS = 3  # in a row, none of which was a success


@dataclass(frozen=True, slots=True)
class Crash:
    """A child that `signal` has ended, which nobody here had sent; `log`: how its log ended."""

    name: str
    signal: int
    log: str


class Supervisor:
    """Keeps one child up. One that is ended on purpose, or leaves with an exit status, stays down."""

    crashes: ClassVar[list[Crash]] = []
    """Every crash that any of them has seen, in order."""
    _all: ClassVar["weakref.WeakSet[Supervisor]"] = weakref.WeakSet()

    def __init__(self, process: Process, ready: Callable[[], Awaitable[bool]], within: float) -> None:
        self._process = process
        self._ready = ready
        self._within = within
        self._seen: int | None = None  # the child whose crash is noted
        Supervisor._all.add(self)

    @classmethod
    def look(cls) -> None:
        """Notes what has crashed by now, and was not seen yet."""
        for each in list(cls._all):
            each._has_crashed()

    async def start(self) -> None:
        """Starts the child, and once more where it crashes meanwhile. Raises ProcessError if it does not come up."""
        for left in reversed(range(_STARTS)):
            try:
                await self._process.start(self._ready, self._within)
            except ProcessError:
                if not self._has_crashed() or not left:
                    raise
            else:
                return

    async def run(self) -> None:
        """Starts it again whenever it has crashed, until cancelled. Raises ProcessError if it does not come up."""
        while True:
            await asyncio.sleep(_LOOK)
            if self._has_crashed():
                self._process.kill()  # its own children
                await self.start()

    def _has_crashed(self) -> bool:
        number = self._process.crash
        if number is None:
            return False
        if self._seen != self._process.pid:
            self._seen = self._process.pid
            Supervisor.crashes.append(Crash(self._process.name, number, self._process.tail()))
        return True


@asynccontextmanager
async def supervised(
    process: Process, ready: Callable[[], Awaitable[bool]], within: float = 60.0
) -> AsyncIterator[None]:
    """Runs the child, and keeps it up; at the end its whole group is gone.

    Each start may take `within` seconds. Raises ProcessError if it does not come up, at the start or again.
    """
    supervisor = Supervisor(process, ready, within)
    try:
        await supervisor.start()
        running = asyncio.create_task(supervisor.run())
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    finally:
        process.kill()
