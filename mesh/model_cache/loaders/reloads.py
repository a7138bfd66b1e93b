"""Reloads of a model server that takes the full list of models each time, and one reload at a time."""

import asyncio
from collections.abc import Awaitable, Callable

from mesh.model_cache.loaders.loader import LoadFailed, ServerAway

Outcome = LoadFailed | ServerAway | None


class Reloads:
    """One reload is under way at most; however many are asked for meanwhile, one more follows it.

    `send` sends the list as it is then. Raises LoadFailed, ServerAway.
    """

    def __init__(self, send: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._next: asyncio.Future[Outcome] | None = None
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> asyncio.Future[Outcome]:
        """The outcome of the first reload that is sent after now. Await it behind a shield: others wait for it, too."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
        return self._next

    async def close(self) -> None:
        """Give up the reload that is under way. Nobody may wait for it any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._next is not None:
            current, self._next = self._next, None
            outcome: Outcome = None
            try:
                await self._send()
            except (LoadFailed, ServerAway) as error:
                outcome = error
            finally:
                if not current.done():
                    current.set_result(outcome)
