"""An event loop whose clock jumps to the next timer instead of waiting for it: minutes of a fleet in seconds."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _JumpingSelector(selectors.SelectSelector):
    now = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("Everything waits and no timer runs: nothing would ever happen again.")
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at `start` and stands still while anything can run. Threads are not waited for: use none."""

    def __init__(self, start: float = 0.0) -> None:
        self._jumping = _JumpingSelector()
        self._jumping.now = start
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now

    @property
    def turns(self) -> int:
        """How often the loop has woken up."""
        return self._jumping.turns


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
