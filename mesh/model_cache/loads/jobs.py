"""The loads under way: at most one for each model, whoever asks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import Entry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, CacheError, ModelBroken
from mesh.model_cache.tasks import Spawn


class Lease:
    """One call in flight. The model is not unloaded before `release`, which the call's end must bring about.

    As a context manager it is released at the end of the block. `was_cold`: the call had to wait for the load.
    """

    __slots__ = ("_entry", "_give_back", "was_cold")

    def __init__(self, entry: Entry, give_back: Callable[[Entry], None], was_cold: bool) -> None:
        self._entry: Entry | None = entry
        self._give_back = give_back
        self.was_cold = was_cold

    @property
    def key(self) -> Key:
        """The model version in use. Raises ValueError once it was released."""
        if self._entry is None:
            raise ValueError("the lease was released")
        return self._entry.key

    def release(self) -> None:
        """The call has ended. A second release does nothing."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._give_back(entry)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


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


logger = logging.getLogger(__name__)


class Jobs:
    """`work` brings a model; `arrived` is told in the step in which it is available, before anybody else."""

    def __init__(
        self,
        core: CacheState,
        spawn: Spawn,
        work: Callable[[Key], Awaitable[Entry]],
        arrived: Callable[[Entry, Job], None],
    ) -> None:
        self._core = core
        self._spawn = spawn
        self._work = work
        self._arrived = arrived
        self._jobs: dict[Key, Job] = {}

    def get(self, key: Key) -> Job | None:
        """The load of that model, if one is under way."""
        return self._jobs.get(key)

    def of(self, key: Key) -> Job:
        """The load of that model that is under way, or a new one. Raises CacheError."""
        job = self._jobs.get(key)
        if job is None:
            failure = self._core.quarantine.check(key, self._core.clock())
            if failure is not None:
                raise failure.error()
            if len(self._jobs) >= self._core.settings.max_loads:
                raise Busy("Too many models are on their way to this node already.")
            job = Job(key, self._core.clock(), self._core.settings.max_waiting)
            job.task = self._spawn(self._run(job))
            job.task.add_done_callback(lambda _: self._ended(job))
            self._jobs[key] = job
        return job

    async def bring(self, key: Key) -> None:
        """Have a model loaded without using it. Raises CacheError."""
        job = self.of(key)
        await job.join()
        if job.error is not None:
            raise copy_of(job.error)

    async def called_off(self, key: Key) -> None:
        """Return when no load of that model is under way: a fetch is ended, what the server works on is waited for."""
        job, entry = self._jobs.get(key), self._core.ledger.entries.get(key)
        if job is None:
            return
        if job.task is not None and (entry is None or entry.state is not ModelState.LOADING):
            job.task.cancel()
        await job.join()

    async def _run(self, job: Job) -> None:
        try:
            entry = await self._work(job.key)
        except CacheError as failure:
            job.error = failure
            logger.warning("model not loaded", extra={"model": str(job.key), "error": failure.cause})
        except Exception as failure:  # a mistake here must reach those who wait, too
            job.error = ModelBroken(f"Model {job.key.model!a} does not load: the cache failed.", repr(failure))
            raise
        else:
            # Before anything else can happen to the model: who comes after this must not join a load that has ended.
            del self._jobs[job.key]
            self._arrived(entry, job)

    def _ended(self, job: Job) -> None:
        """The last step of every load, even of one that was called off before its first."""
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
            job.refuse(job.error or Busy(f"The load of model {job.key.model!a} was called off."))
