"""The model cache of a node: asks for a model, and gets the right to use it.

    async with manager.running():
        lease = manager.try_acquire("resnet") or await manager.ensure("resnet")
        with lease:
            ...  # the call is in flight

A hit takes dictionary look-ups and no call to anybody. A miss joins the load of that model, or starts it; the load goes
on for later callers whatever becomes of those who wait. There is no lock, so no model ever waits for another one but
for room, for the places of `fetch_concurrency`, and for what the model server itself does one after the other.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from mesh.model_cache.catalog import Catalog
from mesh.model_cache.core import Core, Offload
from mesh.model_cache.errors import CacheError, Refused
from mesh.model_cache.feed import Forecast, Report
from mesh.model_cache.files import Files
from mesh.model_cache.job import Job
from mesh.model_cache.jobs import Jobs
from mesh.model_cache.lease import Lease
from mesh.model_cache.ledger import Ledger
from mesh.model_cache.load_times import LoadTimes
from mesh.model_cache.loader import Loader
from mesh.model_cache.loading import Loading
from mesh.model_cache.names import Key, check_name, check_version
from mesh.model_cache.plan import Evict, Rules
from mesh.model_cache.quarantine import Quarantine
from mesh.model_cache.server import ServerWatch
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.states import Entry, Room, State
from mesh.model_cache.status import CacheStatus, describe
from mesh.model_cache.store import Store
from mesh.model_cache.stores.staging import clean_leftovers
from mesh.model_cache.tasks import Tasks
from mesh.model_cache.unloading import Unloading
from mesh.model_cache.upkeep import Upkeep
from mesh.model_cache.versions import Version, Versions
from mesh.routing.cache_map import Residency

_RESUMABLE_SECONDS = 86_400.0  # for which an unfinished fetch of an earlier process is kept

FORECAST_MODELS = 1000
"""Absent models that a full forecast names."""


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
        self._core = core = Core(
            settings,
            Files(settings.folder),
            Ledger(rules, settings.reserve.room()),
            clock,
            offload,
            Quarantine(back_off.first_seconds, back_off.most_seconds),
        )
        self._tasks = Tasks()
        self._catalog = Catalog(settings, store, clock, self._tasks.spawn)
        self._upkeep = upkeep = Upkeep(core, self._tasks.spawn, self)
        self._server = ServerWatch(core, loader, upkeep.adopt, upkeep.refill)
        self._loading = Loading(core, self._catalog, store, loader, self._server, self.carry_out)
        self._unloading = Unloading(core, loader, self._server)
        self._load_times = LoadTimes()
        self._jobs = Jobs(core, self._tasks.spawn, self._loading.bring, self._arrived)
        self._versions = Versions(core, self._catalog, self._tasks.spawn, self._jobs.bring)
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
                self._tasks.spawn(self._server.run())
                self._tasks.spawn(self._server.follow())
                self._tasks.spawn(self._upkeep.run())
                yield self
        finally:
            self._core.stopped = True
            self._core.bell.ring()

    # ---- for calls ----

    def try_acquire(self, model: str, version: Version = None, label: str | None = None) -> Lease | None:
        """The right to use a resident model, or None. Asks nobody, waits for nothing, raises nothing."""
        if self._server.doubted:
            return None
        now = self._core.clock()
        entry = self._versions.called(model, version, label, now)
        if entry is None or entry.state is not State.AVAILABLE:
            return None
        self._core.ledger.acquire(entry, now)
        return Lease(entry, self._give_back, was_cold=False)

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
        entry = self._core.ledger.entries.get(key)
        if entry is not None and entry.state is State.AVAILABLE:
            self._core.ledger.acquire(entry, self._core.clock())
            return Lease(entry, self._give_back, was_cold=False)
        return await self._jobs.of(key).wait()

    def expected_load_seconds(self, model: str, version: Version = None, label: str | None = None) -> float | None:
        """How long a call would wait for the model now: 0.0 if it is resident; None if nothing is known."""
        number = self._versions.number(model, version, label)
        in_use = self._versions.in_use(model)
        if number is None and in_use is not None and in_use.state is State.AVAILABLE:
            return 0.0
        remote = self._catalog.newest_known(model) if number is None else self._catalog.known(Key(model, number))
        if remote is not None:
            key = Key(model, remote.version)
        elif number is not None:
            key = Key(model, number)
        else:
            key = Key(model, -1)
        entry = self._core.ledger.entries.get(key)
        if entry is not None and entry.state is State.AVAILABLE:
            return 0.0
        expected = self._load_times.expected(model, None if remote is None else remote.size_bytes)
        job = self._jobs.get(key)
        if expected is None or job is None:
            return expected
        return max(expected - (self._core.clock() - job.begun), 0.0)

    def suspect_server(self) -> None:
        """A call failed in a way that a restart of the model server would explain: look at it now."""
        self._server.suspect()

    # ---- for operators ----

    async def load(self, model: str, version: Version = None, label: str | None = None) -> Key:
        """Bring a model now, whatever happened to it before. Raises CacheError."""
        check_name(model)
        self._catalog.drop(model)
        key = await self._versions.resolve(model, version, label)
        self._core.quarantine.forgive(key)
        await self._bring_absent(key)
        return key

    async def warm(self, model: str) -> None:
        """Bring a model that calls are about to come for, as one of those calls would. Raises CacheError."""
        check_name(model)
        await self._bring_absent(await self._versions.resolve(model, None, None))

    async def unload(self, model: str, version: Version = None) -> None:
        """Let a model go (all its versions, if none is named) once its calls have ended. Raises Refused, BadName."""
        check_name(model)
        number = None if version is None else check_version(version)
        if model in self._core.ledger.rules.pinned:
            raise Refused(f"Model {model!a} is pinned: unpin it first.")
        keys = [entry.key for entry in self._core.ledger.of_model(model) if number in (None, entry.key.version)]
        for key in keys:
            await self._jobs.called_off(key)
            entry = self._core.ledger.entries.get(key)
            if entry is not None and entry.state is State.AVAILABLE:
                self._core.ledger.drain(entry, self._core.clock())
                self._core.announce(model)
                self._tasks.spawn(self._unloading.drain(entry))
        for key in keys:
            await self._core.settled(key)

    async def pin(self, model: str) -> None:
        """Load a model and never evict it. Raises CacheError, and then it is not pinned."""
        before = self._core.ledger.rules.pinned
        self._set_pinned(before | {check_name(model)})
        try:
            await self.load(model)
        except CacheError:
            self._set_pinned(self._core.ledger.rules.pinned - ({model} - before))
            raise

    def unpin(self, model: str) -> None:
        """The model may be evicted again."""
        self._set_pinned(self._core.ledger.rules.pinned - {model})
        self._core.bell.ring()

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
            tuple(models), core.ledger.rules.capacity, self.free(), self._server.cause, self._catalog.causes()
        )

    # ---- for edges ----

    def residency(self) -> Report:
        """How every model stands that is not absent."""
        return self._core.feed.now()

    def standing(self, model: str) -> tuple[Residency, bool]:
        """How one model stands, and whether the node has announced that it goes. One look-up."""
        return self._core.feed.state(model), self._core.feed.leaving

    def forecast(self, report: Report) -> Forecast:
        """How long calls would wait for the models of a report that are not available; see `Forecast`.

        With a full report the models of the latest loads are in it, too: what is absent is not in the report.
        """
        models = dict.fromkeys(report.models)
        if report.full:
            models |= dict.fromkeys(self._load_times.latest(FORECAST_MODELS))
        waits = {}
        for model in models:
            state = self._core.feed.state(model)
            if state is not Residency.AVAILABLE and (state is Residency.LOADING or model in self._load_times):
                seconds = self.expected_load_seconds(model)
                if seconds is not None:
                    waits[model] = seconds
        return Forecast(waits, self._load_times.mean)

    def subscribe(self) -> AsyncGenerator[Report, None]:
        """How every model stands, then every change; slow readers get the last state of each model."""
        return self._core.feed.subscribe()

    def free(self) -> Room:
        """What is neither in use nor promised."""
        return self._core.ledger.rules.capacity - self._core.ledger.promised()

    @property
    def in_flight(self) -> int:
        """Calls that use a model now."""
        return sum(entry.in_flight for entry in self._core.ledger.entries.values())

    def leave(self) -> None:
        """Announce that this node is going to all who listen. Calls are still served."""
        self._core.feed.leave()

    # ---- for the upkeep ----

    async def resolve(self, model: str, version: Version, label: str | None) -> Key:
        """Which version is meant. Raises CacheError."""
        return await self._versions.resolve(model, version, label)

    async def bring(self, key: Key) -> None:
        """Have a model loaded without using it. Raises CacheError."""
        await self._jobs.bring(key)

    def serve_as_newest(self, entry: Entry, now: float) -> None:
        """Calls that name no version get this one, unless a newer one is available."""
        self._versions.serve_as_newest(entry, now)

    def carry_out(self, evict: Evict) -> None:
        """Start what an eviction has decided."""
        for key in evict.unload:
            self._core.announce(key.model)
            self._tasks.spawn(self._unloading.drain(self._core.ledger.entries[key]))
        for key in evict.delete:
            if key not in evict.unload:
                self._tasks.spawn(self._core.remove_files(self._core.ledger.entries[key]))

    # ---- inside ----

    async def _bring_absent(self, key: Key) -> None:
        entry = self._core.ledger.entries.get(key)
        if entry is None or entry.state is not State.AVAILABLE:
            await self._jobs.bring(key)

    def _arrived(self, entry: Entry, job: Job) -> None:
        now = self._core.clock()
        self._load_times.observe(entry.key.model, now - job.begun, entry.disk_bytes)
        remote = self._catalog.newest_known(entry.key.model)
        if remote is None or remote.version <= entry.key.version:
            self._versions.serve_as_newest(entry, now)
        job.grant(lambda: self._cold_lease(entry))
        self.carry_out(self._core.ledger.make_reserve(now))

    def _cold_lease(self, entry: Entry) -> Lease:
        self.cold_calls += 1
        self._core.ledger.acquire(entry, self._core.clock())
        return Lease(entry, self._give_back, was_cold=True)

    def _give_back(self, entry: Entry) -> None:
        if self._core.ledger.release(entry):
            self._core.bell.ring_soon()

    def _set_pinned(self, models: frozenset[str]) -> None:
        self._core.ledger.rules = replace(self._core.ledger.rules, pinned=models)
