"""How long a peer is waited for: its own time, and not the time in which this process did not get to listen."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# A wait is counted in so many steps. A loop that is busy or suspended runs its overdue timers before it reads what has
# come meanwhile: a step counts as one however late it is, so that the loop turns at least as often before a wait ends.
_STEPS = 20


class Patience:
    """Calls `spent`, once, when a peer has had `seconds` in which this loop was listening; to be cancelled before."""

    __slots__ = ("_handle", "_left", "_loop", "_spent", "_step")

    def __init__(self, seconds: float, spent: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._spent = spent
        self._step = seconds / _STEPS
        self._left = _STEPS
        self._handle = self._loop.call_later(self._step, self._on_step)

    def cancel(self) -> None:
        """It is not waited for any more."""
        self._handle.cancel()

    def _on_step(self) -> None:
        self._left -= 1
        if self._left:
            self._handle = self._loop.call_later(self._step, self._on_step)
        else:
            self._spent()


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` by a `Patience`: raises TimeoutError where the block takes longer."""
    async with asyncio.timeout(None) as timeout:
        # A block that ends in the very turn of the last step is over time; whatever it has made is its own to undo.
        timer = Patience(seconds, lambda: timeout.reschedule(0.0))
        try:
            yield
        finally:
            timer.cancel()
