"""Work on many bytes, kept off the event loop: every other call of the process waits while the loop works on one."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LONG: Final = 1 << 20
"""Bytes from which work is worth a thread: what goes over them once takes about a millisecond, a thread a tenth."""


async def off_loop(
    size: int, work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """What `work` returns or raises; it goes over about `size` bytes, and is done here at once where these are few.

    It pays where the work lets go of the interpreter: unpacking does, and so does the joining of many bytes. Whoever
    is cancelled no longer waits for it; the thread ends by itself.
    """
    if size < LONG:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
