"""Background work in virtual time: runs while a story is played, and leaves no task behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from integration.virtual_time import run


class Background(Protocol):
    """What runs until cancelled, as a registry or a prober does."""

    async def run(self) -> Any: ...


def during(background: Background, story: Callable[[], Awaitable[None]]) -> None:
    """Plays the story while the work runs, then cancels it."""

    async def main() -> None:
        running = asyncio.create_task(background.run())
        await story()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
