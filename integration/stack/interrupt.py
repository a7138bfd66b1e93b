"""Runs a coroutine so that Ctrl-C and SIGTERM unwind it, and so every `async with` in it cleans up."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

INTERRUPTED = 130
TERMINATED = 143


def run(main: Coroutine[Any, Any, int]) -> int:
    """Returns what `main` returns, or the shell's number for the signal that ended it."""
    try:
        return asyncio.run(_guarded(main))
    except KeyboardInterrupt:
        return INTERRUPTED
    except asyncio.CancelledError:
        return TERMINATED


async def _guarded(main: Coroutine[Any, Any, int]) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await main
