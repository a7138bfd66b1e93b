"""The model cache of a node: asks for a model, and gets the right to use it.

    async with manager.running():
        lease = manager.try_acquire("resnet") or await manager.ensure("resnet")
        with lease:
            ...  # the call is in flight

Here are the calls, and how the parts are put together; `commands` are for operators, `node_report` is for edges.

A hit takes dictionary look-ups and no call to anybody. A miss joins the load of that model, or starts it; the load goes
on for later callers whatever becomes of those who wait. There is no lock, so no model ever waits for another one but
for room, for the places of `fetch_concurrency`, and for what the model server itself does one after the other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mesh.model_cache.books.back_off import BackOff
from mesh.model_cache.books.eviction import Rules
from mesh.model_cache.books.ledger import Ledger
from mesh.model_cache.books.load_times import LoadTimes
from mesh.model_cache.books.names import check_name, check_version
from mesh.model_cache.books.states import Entry, ModelState
from mesh.model_cache.books.status import CacheStatus, describe
from mesh.model_cache.cache_state import CacheState, Offload
from mesh.model_cache.commands import Commands
from mesh.model_cache.files import Files
from mesh.model_cache.loaders.loader import Loader
from mesh.model_cache.loads.admission import Admission
from mesh.model_cache.loads.fetching import Fetching
from mesh.model_cache.loads.jobs import Job, Jobs, Lease
from mesh.model_cache.loads.loading import Loading
from mesh.model_cache.loads.unloading import Unloading
from mesh.model_cache.maintenance import Maintenance
from mesh.model_cache.report import NodeReport
from mesh.model_cache.server_health import ServerHealth
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.store_index import StoreIndex
from mesh.model_cache.stores import clean_leftovers
from mesh.model_cache.stores.store import Store
from mesh.model_cache.tasks import Tasks
from mesh.model_cache.versions import Version, Versions

_RESUMABLE_SECONDS = 86_400.0  # for which an unfinished fetch of an earlier process is kept


class Manager:
    """See the module. Everything belongs to one event loop; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        settings: CacheSettings,
        store: Store,
        loader: Loader,
        *,
        clock: Callable[[], float] = time.monotonic,
        offload: Offload = asyncio.to_thread,
    ) -> None:
        rules = Rules(
            settings.capacity.room(),
            settings.min_age_seconds,
            settings.pinned,
            settings.capacity.disk_bytes is not None,
        )
        back_off = settings.back_off
        self._core = core = CacheState(
            settings,
            Files(settings.folder),
            Ledger(rules, settings.reserve.room()),
            clock,
            offload,
            BackOff(back_off.first_seconds, back_off.most_seconds),
        )
        self._tasks = tasks = Tasks()
        self._store_index = store_index = StoreIndex(settings, store, clock, tasks.spawn)
        self._server = server = ServerHealth(core, loader)
        self._unloading = unloading = Unloading(core, loader, server, tasks.spawn)
        admission = Admission(core, store_index, unloading.carry_out)
        loading = Loading(core, admission, Fetching(core, store_index, store), loader, server)
        self._load_times = LoadTimes()
        self._jobs = jobs = Jobs(core, tasks.spawn, loading.bring, self._arrived)
        self._versions = versions = Versions(core, store_index, tasks.spawn, jobs.bring)
        self._upkeep = Maintenance(core, tasks.spawn, versions, jobs, unloading)
        self.commands = Commands(core, store_index, versions, jobs, unloading)
        self.node_report = NodeReport(core, store_index, versions, jobs, self._load_times)
        self.cold_calls = 0
        """Calls that had to wait for a load and got their model."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Manager"]:
        """The cache works while the block runs. What is loaded stays in the model server after it."""
        await self._core.offload(self._core.files.prepare)
        await self._core.offload(clean_leftovers, self._core.files.models, time.time(), _RESUMABLE_SECONDS)
        self._upkeep.take_in(await self._core.offload(self._core.files.scan))
        try:
            async with self._tasks.open():
                self._tasks.spawn(self._server.run(self._upkeep.adopt, self._upkeep.refill))
                self._tasks.spawn(self._server.follow())
                self._tasks.spawn(self._upkeep.run())
                yield self
        finally:
            self._core.stopped = True
            self._core.bell.ring()

    def try_acquire(self, model: str, version: Version = None, label: str | None = None) -> Lease | None:
        """The right to use a resident model, or None. Asks nobody, waits for nothing, raises nothing."""
        if self._server.doubted:
            return None
        now = self._core.clock()
        entry = self._versions.called(model, version, label, now)
        if entry is None or entry.state is not ModelState.AVAILABLE:
            return None
        return self._lease(entry, now)

    async def ensure(self, model: str, version: Version = None, label: str | None = None) -> Lease:
        """The right to use a model, brought here first if need be.

        Raises CacheError: BadName, ModelMissing, StoreAway, NoRoom, ModelBroken or Busy. The caller's own time limit
        or cancellation ends his waiting, never the load.
        """
        check_name(model)
        if label is not None:
            check_name(label, "version label")
        if version is not None:
            check_version(version)
        await self._server.sure()
        lease = self.try_acquire(model, version, label)
        if lease is not None:
            return lease
        key = await self._versions.resolve(model, version, label)
        await self._server.sure()
        entry = self._core.ledger.available(key)
        if entry is not None:
            return self._lease(entry, self._core.clock())
        return await self._jobs.of(key).wait()

    def suspect_server(self) -> None:
        """A call failed in a way that a restart of the model server would explain: look at it now."""
        self._server.suspect()

    def status(self) -> CacheStatus:
        """Everything an operator may want to see, causes included."""
        core, now = self._core, self._core.clock()
        pinned = core.ledger.rules.pinned
        models = []
        for entry in core.ledger.newest_first():
            job = self._jobs.get(entry.key)
            failure = core.quarantine.last(entry.key)
            attempts, retry_at = (failure.attempts, failure.until) if failure else (0, now)
            waiting = 0 if job is None else len(job)
            models.append(describe(entry, waiting, entry.key.model in pinned, attempts, retry_at, now))
        return CacheStatus(
            tuple(models),
            core.ledger.rules.capacity,
            self.node_report.free(),
            self._server.cause,
            self._store_index.causes(),
        )

    @property
    def in_flight(self) -> int:
        """Calls that use a model now."""
        return sum(entry.in_flight for entry in self._core.ledger.entries.values())

    def _arrived(self, entry: Entry, job: Job) -> None:
        now = self._core.clock()
        self._load_times.observe(entry.key.model, now - job.begun, entry.disk_bytes)
        remote = self._store_index.newest_known(entry.key.model)
        if remote is None or remote.version <= entry.key.version:
            self._versions.serve_as_newest(entry, now)
        job.grant(lambda: self._cold_lease(entry))
        self._unloading.carry_out(self._core.ledger.make_reserve(now))

    def _cold_lease(self, entry: Entry) -> Lease:
        self.cold_calls += 1
        return self._lease(entry, self._core.clock(), was_cold=True)

    def _lease(self, entry: Entry, now: float, was_cold: bool = False) -> Lease:
        self._core.ledger.acquire(entry, now)
        return Lease(entry, self._give_back, was_cold)

    def _give_back(self, entry: Entry) -> None:
        if self._core.ledger.release(entry):
            self._core.bell.ring_soon()
