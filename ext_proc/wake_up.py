"""The one timer of a pure machine: it says when it wants to be woken, and its shell sees to it."""

import asyncio
from collections.abc import Callable
from math import ceil


class WakeUp:
    """Calls `wake` once the time that was last asked for has come. `clock` in seconds, monotonic."""

    __slots__ = ("_armed", "_clock", "_timer", "_wake")

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._wake = wake
        self._clock = clock
        self._armed: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float | None) -> None:
        """Asks for a time in place of the one before; None: for none."""
        if when == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed = when
        if when is not None:
            self._timer = asyncio.get_running_loop().call_later(_delay(when - self._clock()), self._fire)

    def close(self) -> None:
        """Asks for nothing any more, and forgets whom to call: who owns this and is called by it would be a circle."""
        self.at(None)
        self._wake = _nobody

    def _fire(self) -> None:
        self._timer = self._armed = None
        self._wake()


def _nobody() -> None:
    """Is called by a timer that was closed."""


def _delay(seconds: float) -> float:
    """Seconds for a timer, in whole milliseconds.

    The event loop counts in them, and may be early by a part of one; a rest of less than one, rounded down, would
    make it turn without a pause until the time has come.
    """
    return ceil(seconds * 1000 - 1e-3) / 1000 if seconds > 0 else 0.0
