"""The loads under way, one job for each model version at most, and the calls that wait for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry, ModelState
from mesh.model_cache.cache_state import CacheState
from mesh.model_cache.errors import Busy, CacheError, ModelBroken
from mesh.model_cache.lease import Lease
from mesh.model_cache.loads.stages import MOST_TRACED, LoadEnd, Stages
from mesh.model_cache.tasks import Spawn
from mesh.trace_context import TraceContext

logger = logging.getLogger(__name__)


class Job:
    """One load, and the calls that wait for it. Each call gets exactly one answer: its own lease, or the error.

    Leases are given out in the step in which the model becomes available, so that nothing can come in between and
    evict it. A caller may go away at any time: the load goes on for the others and for those to come.
    """

    def __init__(self, key: Key, clock: Callable[[], float], limit: int) -> None:
        """`limit` is how many calls may wait at once; `clock` is the cache's, in seconds."""
        self.key = key
        self.begun = clock()
        """When the first call asked, in seconds of the cache's clock."""
        self.stages = Stages(clock)
        """What it has done."""
        self.task: asyncio.Task[None] | None = None
        self.error: CacheError | None = None
        """Why it failed, once it has."""
        self._limit = limit
        self._ended = asyncio.Event()
        self._waiters: dict[asyncio.Future[Lease], None] = {}
        self._traced: list[TraceContext] = []

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._waiters)

    async def wait(self, trace: TraceContext | None = None) -> Lease:
        """A lease on the model once it is available. Raises CacheError: why it cannot be had.

        `trace` is the span of the call that waits, if it is traced.
        """
        if len(self._waiters) >= self._limit:
            raise Busy(f"Too many calls wait for model {self.key.model!a} already.")
        if trace is not None and len(self._traced) < MOST_TRACED:
            self._traced.append(trace)
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
            del waiter  # its error's traceback holds this frame, and all that the frames before it hold

    async def join(self) -> None:
        """Return when the load has ended, well or not, without using the model."""
        await self._ended.wait()

    def ended(self, now: float) -> LoadEnd:
        """What is told of it when it ends now."""
        return LoadEnd(self.key, self.begun, now, tuple(self.stages.passed), self.error, tuple(self._traced))

    def grant(self, lease: Callable[[], Lease]) -> None:
        """The model is available: give every caller that still waits a lease of its own, made by `lease`."""
        self._ended.set()
        for waiter in self._take():
            waiter.set_result(lease())

    def refuse(self, error: CacheError) -> None:
        """The load has failed: tell every caller that still waits why; each gets an error object of its own."""
        self.error = error
        self._ended.set()
        for waiter in self._take():
            waiter.set_exception(error.copy())

    def _take(self) -> list[asyncio.Future[Lease]]:
        waiters, self._waiters = self._waiters, {}
        return [waiter for waiter in waiters if not waiter.done()]


Work = Callable[[], Awaitable[CacheEntry]]
"""Loads one model. Raises CacheError."""


class Jobs:
    """Single flight: whoever asks for a model that is being loaded joins its job.

    `work` loads a model, and `arrived` is called in the step in which the model is available, before anything else can
    happen to it. `failed` is called where that comes to nothing, before those who waited go on.
    """

    def __init__(
        self,
        cache: CacheState,
        spawn: Spawn,
        work: Callable[[Key], Awaitable[CacheEntry]],
        arrived: Callable[[CacheEntry, Job], None],
        failed: Callable[[Job], None],
    ) -> None:
        self._cache = cache
        self._spawn = spawn
        self._work = work
        self._arrived = arrived
        self._failed = failed
        self._jobs: dict[Key, Job] = {}
        self.failed = 0
        """Loads that have failed, or were called off."""

    def start(self, key: Key, work: Work) -> None:
        """Load a model of which no load is under way by other work than the usual, however many others are."""
        self._start(key, work)

    def get(self, key: Key) -> Job | None:
        """The load of that model, if one is under way."""
        return self._jobs.get(key)

    def of(self, key: Key, work: Work | None = None) -> Job:
        """The load of that model that is under way, or a new one, by that work or the usual. Raises CacheError."""
        job = self._jobs.get(key)
        if job is None:
            failure = self._cache.back_off.check(key, self._cache.clock())
            if failure is not None:
                raise failure.error()
            if len(self._jobs) >= self._cache.settings.max_loads:
                raise Busy("Too many models are on their way to this node already.")
            job = self._start(key, work or partial(self._work, key))
        return job

    async def bring(self, key: Key, work: Work | None = None) -> None:
        """Have a model loaded without using it; see `of`. Raises CacheError."""
        job = self.of(key, work)
        await job.join()
        if job.error is not None:
            raise job.error.copy()

    async def called_off(self, key: Key) -> None:
        """Return when no load of that model is under way: a fetch is ended, what the server works on is waited for."""
        job, entry = self._jobs.get(key), self._cache.entry(key)
        if job is None:
            return
        if job.task is not None and (entry is None or entry.state is not ModelState.LOADING):
            job.task.cancel()
        await job.join()

    def _start(self, key: Key, work: Work) -> Job:
        job = Job(key, self._cache.clock, self._cache.settings.max_waiting)
        job.task = self._spawn(self._run(job, work))
        job.task.add_done_callback(lambda _: self._ended(job))
        self._jobs[key] = job
        return job

    async def _run(self, job: Job, work: Work) -> None:
        try:
            entry = await work()
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
        """The last step of every job, even of one that was called off before its first."""
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
            self.failed += 1
            job.refuse(job.error or Busy(f"The load of model {job.key.model!a} was called off."))
            self._failed(job)
