"""One load under way, and the calls that wait for it."""

import asyncio
from collections.abc import Callable

from mesh.model_cache.errors import Busy, CacheError
from mesh.model_cache.lease import Lease
from mesh.model_cache.names import Key


class Job:
    """The calls that wait for one model. Each gets exactly one answer: its own lease, or the error.

    Leases are given out in the step in which the model becomes available, so that nothing can come in between and
    evict it. A caller may go away at any time: the load goes on for the others and for those to come.
    """

    def __init__(self, key: Key, begun: float, limit: int) -> None:
        self.key = key
        self.begun = begun
        """When the first call asked, in seconds of the cache's clock."""
        self.task: asyncio.Task[None] | None = None
        self.error: CacheError | None = None
        """Why it failed, once it has."""
        self._limit = limit
        self._ended = asyncio.Event()
        self._waiters: dict[asyncio.Future[Lease], None] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self) -> Lease:
        """Raises CacheError: why the model cannot be had."""
        if len(self._waiters) >= self._limit:
            raise Busy(f"Too many calls wait for model {self.key.model!a} already.")
        waiter: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        except asyncio.CancelledError:
            # The answer and the cancellation can come in the same step: then nobody else gives the lease back.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()
            raise
        finally:
            self._waiters.pop(waiter, None)

    async def join(self) -> None:
        """Return when the load has ended, well or not, without using the model."""
        await self._ended.wait()

    def grant(self, lease: Callable[[], Lease]) -> None:
        """Give every caller that still waits a lease of its own."""
        self._ended.set()
        for waiter in self._take():
            waiter.set_result(lease())

    def refuse(self, error: CacheError) -> None:
        """Tell every caller that still waits why there is no model; each gets an error object of its own."""
        self.error = error
        self._ended.set()
        for waiter in self._take():
            waiter.set_exception(copy_of(error))

    def _take(self) -> list[asyncio.Future[Lease]]:
        waiters, self._waiters = self._waiters, {}
        return [waiter for waiter in waiters if not waiter.done()]


def copy_of(error: CacheError) -> CacheError:
    """The same error as a new object: one object raised to many callers would pile up their tracebacks."""
    if isinstance(error, Busy):
        return Busy(error.message, error.cause, error.retry_after)
    return type(error)(error.message, error.cause)
