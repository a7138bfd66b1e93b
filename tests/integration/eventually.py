"""What is asked again and again until it is as it should be."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def comes_to(ask: Callable[[], Awaitable[T]], expected: T, seconds: float = 30.0) -> T:
    """What is answered at last: `expected`, unless that does not come in time."""
    until = time.monotonic() + seconds
    while (answer := await ask()) != expected and time.monotonic() < until:
        await asyncio.sleep(0.1)
    return answer
