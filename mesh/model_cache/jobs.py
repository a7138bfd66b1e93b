"""The loads under way: at most one for each model, whoever asks."""

import logging
from collections.abc import Awaitable, Callable

from mesh.model_cache.core import Core
from mesh.model_cache.errors import Busy, CacheError, ModelBroken
from mesh.model_cache.job import Job, copy_of
from mesh.model_cache.names import Key
from mesh.model_cache.states import Entry, State
from mesh.model_cache.tasks import Spawn

log = logging.getLogger(__name__)


class Jobs:
    """`work` brings a model; `arrived` is told in the step in which it is available, before anybody else."""

    def __init__(
        self, core: Core, spawn: Spawn, work: Callable[[Key], Awaitable[Entry]], arrived: Callable[[Entry, Job], None]
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
        if job.task is not None and (entry is None or entry.state is not State.LOADING):
            job.task.cancel()
        await job.join()

    async def _run(self, job: Job) -> None:
        try:
            entry = await self._work(job.key)
        except CacheError as failure:
            job.error = failure
            log.warning("model not loaded", extra={"model": str(job.key), "error": failure.cause})
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
