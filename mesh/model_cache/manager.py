"""The model cache of a node: asks for a model, and gets the right to use it.

    async with manager.running():
        lease = manager.try_acquire("resnet") or await manager.ensure("resnet")
        with lease:
            ...  # the call is in flight

Here are the calls; `wiring` puts the parts together, `commands` are for operators, `node_report` is for edges.

A hit takes dictionary look-ups and no call to anybody. A miss joins the load of that model, or starts it; the load goes
on for later callers whatever becomes of those who wait. There is no lock, so no model ever waits for another one but
for room, for the places of `fetch_concurrency`, and for what the model server itself does one after the other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from mesh.model_cache.books.names import check_name, check_version
from mesh.model_cache.books.states import CacheEntry
from mesh.model_cache.books.status import CacheStatus, ModelStatus, describe
from mesh.model_cache.cache_state import CacheState, Offload
from mesh.model_cache.carried import CarriedCalls
from mesh.model_cache.lease import Lease
from mesh.model_cache.loaders.loader import Loader
from mesh.model_cache.loads.jobs import Job
from mesh.model_cache.loads.stages import LoadEnd
from mesh.model_cache.loads.unloading import Carried
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores import clean_leftovers
from mesh.model_cache.stores.store import Store
from mesh.model_cache.versions import VersionSpec
from mesh.model_cache.wiring import wire
from mesh.session_claim import SessionClaim
from mesh.trace_context import TraceContext

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
        carried: Carried | None = None,
    ) -> None:
        """`carried` where Envoy may carry calls by itself: what is to be waited for before a model is unloaded."""
        self._cache = CacheState(settings, clock, offload)
        self._parts = parts = wire(self._cache, store, loader, self._arrived, self._failed, carried)
        self._server, self._versions = parts.server, parts.versions
        self.commands, self.node_report = parts.commands, parts.node_report
        self.sessions = parts.sessions
        """The sessions that hold models of this node."""
        self.cold_calls = 0
        """Calls that had to wait for a load and got their model."""
        self.load_listeners: list[Callable[[LoadEnd], None]] = []
        """Are told of each load when it has ended, well or not, before those who waited for it go on."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Manager"]:
        """The cache works while the block runs. What is loaded stays in the model server after it."""
        cache, parts = self._cache, self._parts
        await cache.offload(cache.files.prepare)
        await cache.offload(clean_leftovers, cache.files.models, time.time(), _RESUMABLE_SECONDS)
        parts.maintenance.take_in(await cache.offload(cache.files.scan))
        try:
            async with parts.tasks.open():
                parts.tasks.spawn(self._server.run(parts.maintenance.adopt, parts.maintenance.refill))
                parts.tasks.spawn(self._server.follow())
                parts.tasks.spawn(parts.maintenance.run())
                yield self
        finally:
            cache.stop()

    def try_acquire(self, model: str, version: VersionSpec = None, label: str | None = None) -> Lease | None:
        """The right to use a resident model, or None. Asks nobody, waits for nothing, raises nothing."""
        if not self._server.verified:
            return None
        now = self._cache.clock()
        entry = self._versions.called(model, version, label, now)
        return None if entry is None else self._cache.try_lease(entry, now)

    def would_acquire(self, model: str, version: VersionSpec = None, label: str | None = None) -> bool:
        """Whether `try_acquire` would give a lease now. Counts nothing, and nothing is looked up for it."""
        entry = self._versions.meant(model, version, label) if self._server.verified else None
        return entry is not None and self._cache.usable(entry.key) is not None

    def acquire_again(self, claim: SessionClaim, model: str) -> Lease | None:
        """As `try_acquire`, for one more call of a session: also on a model that takes no new calls any more."""
        return self.sessions.again(claim, model) if self._server.verified else None

    async def ensure(
        self, model: str, version: VersionSpec = None, label: str | None = None, trace: TraceContext | None = None
    ) -> Lease:
        """The right to use a model, brought here first if need be. `trace` is the caller's span, if it is traced.

        Raises CacheError: BadName, ModelMissing, StoreAway, NoRoom, ModelBroken or Busy. The caller's own time limit
        or cancellation ends the wait, never the load.
        """
        check_name(model)
        if label is not None:
            check_name(label, "version label")
        if version is not None:
            check_version(version)
        await self._server.wait_verified()
        lease = self.try_acquire(model, version, label)
        if lease is not None:
            return lease
        key = await self._versions.resolve(model, version, label)
        await self._server.wait_verified()
        entry = self._cache.usable(key)
        if entry is not None:
            return self._cache.lease(entry, self._cache.clock())
        return await self._parts.jobs.of(key).wait(trace)

    def suspect_server(self) -> None:
        """A call failed in a way that a restart of the model server would explain: look at it now."""
        self._server.suspect()

    def carried_calls(self, holds_for: float, changed: Callable[[str], None]) -> CarriedCalls:
        """What is to be told of calls that Envoy carries by itself; see there. One for each cache."""
        return CarriedCalls(self._cache, self._versions, self._server, holds_for, changed)

    def status(self) -> CacheStatus:
        """Everything an operator may want to see, causes included."""
        cache = self._cache
        store_causes = self._parts.store_index.causes()
        models = self._described(cache.entries())
        return CacheStatus(models, cache.capacity, cache.free(), self._server.cause, store_causes)

    def versions_of(self, model: str) -> tuple[ModelStatus, ...]:
        """The status of all versions of a model that the books have."""
        return self._described(self._cache.versions_of(model))

    def _described(self, entries: Iterable[CacheEntry]) -> tuple[ModelStatus, ...]:
        cache, now = self._cache, self._cache.clock()
        models = []
        for entry in entries:
            job = self._parts.jobs.get(entry.key)
            failure = cache.back_off.last(entry.key)
            attempts, retry_at = (failure.attempts, failure.until) if failure else (0, now)
            waiting = 0 if job is None else len(job)
            models.append(describe(entry, waiting, entry.key.model in cache.pinned, attempts, retry_at, now))
        return tuple(models)

    @property
    def failed_loads(self) -> int:
        """Loads that have failed, or were called off."""
        return self._parts.jobs.failed

    @property
    def unloads(self) -> int:
        """Models that the model server has let go of."""
        return self._parts.unloading.unloaded

    @property
    def in_flight(self) -> int:
        """Calls and sessions that use a model now."""
        return self._cache.leases

    def _arrived(self, entry: CacheEntry, job: Job) -> None:
        """A model has become available: the calls that waited get it, before anything else can happen to it."""
        now, parts = self._cache.clock(), self._parts
        parts.load_times.observe(entry.key.model, now - job.begun, entry.disk_bytes)
        remote = parts.store_index.newest_known(entry.key.model)
        if remote is None or remote.version <= entry.key.version:
            self._versions.serve_as_newest(entry, now)
        job.grant(lambda: self._cold_lease(entry))
        parts.unloading.carry_out(self._cache.make_reserve())
        self._tell(job.ended(now))

    def _failed(self, job: Job) -> None:
        """A load has come to nothing."""
        self._tell(job.ended(self._cache.clock()))

    def _tell(self, end: LoadEnd) -> None:
        for listener in self.load_listeners:
            listener(end)

    def _cold_lease(self, entry: CacheEntry) -> Lease:
        self.cold_calls += 1
        return self._cache.lease(entry, self._cache.clock())
