"""The end of a process that answers calls: a signal stops it."""

import asyncio
import contextlib
import math
import signal
from collections.abc import Coroutine
from typing import Any


class Stop:
    """The end of the process: asked for by SIGTERM or SIGINT, at once by a second one. Made in a running loop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """The process is to drain."""
        self.at_once = asyncio.Event()
        """Asked again: it is to drain no longer."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.signalled)

    def signalled(self) -> None:
        """One signal has come."""
        (self.at_once if self.asked.is_set() else self.asked).set()

    async def allow(self, work: Coroutine[Any, Any, object], seconds: float = math.inf) -> None:
        """Does a part of the drain for at most `seconds`, and no longer than until the second signal."""
        doing = asyncio.create_task(work)
        hurry = asyncio.create_task(self.at_once.wait())
        try:
            within = None if math.isinf(seconds) else max(0.0, seconds)
            await asyncio.wait((doing, hurry), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (doing, hurry):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await doing
