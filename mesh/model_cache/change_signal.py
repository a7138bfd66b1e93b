"""The signal that the books have changed, for tasks that wait for room or for a model to go."""

import asyncio

_SOON = 0.01
"""Seconds for which changes are gathered."""


class ChangeSignal:
    """Waiting tasks are woken by every notification, in the order in which they came, and look for themselves."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def notify(self) -> None:
        """Something has changed that tasks may wait for: wake them all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def notify_soon(self) -> None:
        """As `notify`, but 10 ms from now, once for all until then: for what changes thousands of times a second."""
        if self._waiters and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SOON, self.notify)

    async def wait(self, seconds: float | None = None) -> None:
        """Return at the next notification, or after so many seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            self._waiters.pop(waiter, None)
            waiter.cancel()
