"""Waking those who wait for the books to change."""

import asyncio

_SOON = 0.01  # seconds


class ChangeSignal:
    """Tasks wait here, and look again each time it rings, in the order in which they came."""

    def __init__(self) -> None:
        self._sleepers: dict[asyncio.Future[None], None] = {}
        self._soon: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Something changed that others may wait for."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        self._sleepers.clear()

    def ring_soon(self) -> None:
        """Something changed that changes thousands of times a second: one ring for all of it, 10 ms from now."""
        if self._sleepers and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_SOON, self.ring)

    async def wait(self, seconds: float | None = None) -> None:
        """Return at the next ring, or after so many seconds."""
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers[sleeper] = None
        try:
            await asyncio.wait((sleeper,), timeout=seconds)
        finally:
            self._sleepers.pop(sleeper, None)
            sleeper.cancel()
