"""The heap of a process that answers calls: what is in cycles is looked for when nobody waits.

What a call leaves behind is freed at once, by counting references. Only what refers to itself is left to Python's
garbage collector, whose full collections go over everything that has grown since the start: with the tables of many
models, or many calls held, 25 to 45 ms in which no call is answered, and with the usual thresholds that happened every
second under load. So full collections are made here, while the process is idle, or once the heap has doubled.
"""

import asyncio
import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable

LOOK_SECONDS = 1.0
_NEVER = 1 << 30  # collections of the middle generation before one of all
_WORTH_IT = 1.05
"""An idle process collects once its heap has grown or shrunk by so much."""
_TOO_MUCH = 2.0
"""And a busy one once it has grown to so much."""


def settle_heap() -> None:
    """Leaves what is on the heap out of every later collection: to be called once all that lives for good is made.

    A collection of all of it would hold up every call for the time of a limit (70 ms were seen).
    """
    gc.collect()
    gc.freeze()


class Heap:
    """Makes the full collections of this process. `calls` counts those begun, `open_calls` tells those that are open,
    `size` the blocks of memory on the heap.

    It settles the heap at once, and takes full collections over from the interpreter until it is `released`.
    """

    def __init__(
        self, calls: Callable[[], int], open_calls: Callable[[], int], size: Callable[[], int] = sys.getallocatedblocks
    ) -> None:
        self._calls, self._open_calls, self._size = calls, open_calls, size
        self._seen = calls()
        self._thresholds = gc.get_threshold()
        settle_heap()
        gc.set_threshold(*self._thresholds[:2], _NEVER)
        self._settled = size()  # after the last full collection

    def look(self) -> bool:
        """Collects if it is time to; whether it did. To be called every `LOOK_SECONDS`."""
        calls, self._seen = self._seen, self._calls()
        idle = calls == self._seen and not self._open_calls()
        growth = self._size() / self._settled
        if not (growth >= _TOO_MUCH or (idle and not 1 / _WORTH_IT < growth < _WORTH_IT)):
            return False
        gc.collect()
        if idle:
            _give_back()
        self._settled = self._size()
        return True

    async def watch(self) -> None:
        """Looks for as long as it is not cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                self.look()
        finally:
            self.release()

    def release(self) -> None:
        """Leaves full collections to the interpreter again."""
        gc.set_threshold(*self._thresholds)


def _give_back() -> None:
    """Has glibc return the memory that it keeps for later: after bodies of many MiB that is as much."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
