"""The background tasks of one cache: they run while it does, and end with it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from mesh.model_cache.errors import Busy

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a piece of background work. Raises Busy when the cache is being shut down."""


class Tasks:
    """A task group that can be ended, and that a mistake in one task does not end."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While the block runs, so do the tasks; at its end they are cancelled and waited for."""
        failure: Exception | None = None
        async with asyncio.TaskGroup() as self._group:
            try:
                yield
            except Exception as error:  # raised below, bare: the group would wrap it
                failure = error
            finally:
                self._group = None
                for task in self._running:
                    task.cancel()
        if failure is not None:
            raise failure

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a piece of work. Raises Busy when the cache is being shut down."""
        if self._group is None:
            work.close()
            raise Busy("This node is being shut down.")
        task = self._group.create_task(_logged(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # One that is cancelled before its first step never gets to its work, which then is to be closed.
        task.add_done_callback(lambda _: work.close())
        return task


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        logger.exception("a task of the model cache failed")
