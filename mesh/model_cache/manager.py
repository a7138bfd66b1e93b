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
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from mesh.model_cache.catalog import Catalog
from mesh.model_cache.core import Core, Offload
from mesh.model_cache.errors import Busy, CacheError, ModelBroken, ModelMissing, Refused, StoreAway
from mesh.model_cache.feed import Report
from mesh.model_cache.files import Files
from mesh.model_cache.job import Job, copy_of
from mesh.model_cache.lease import Lease
from mesh.model_cache.ledger import Ledger
from mesh.model_cache.load_times import LoadTimes
from mesh.model_cache.loader import Loader
from mesh.model_cache.loading import Loading
from mesh.model_cache.names import LATEST, Key, check_name, check_version
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

log = logging.getLogger(__name__)

_RESUMABLE_SECONDS = 86_400.0  # for which an unfinished fetch of an earlier process is kept

Version = int | str | None
"""A version as a number or as its digits; None: not said."""


@dataclass(slots=True, eq=False)
class _Newest:
    """The version that calls without one get, and when the store is to be asked for a newer one."""

    entry: Entry
    look_again: float


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
        self._jobs: dict[Key, Job] = {}
        self._newest: dict[str, _Newest] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Manager"]:
        """The cache works while the block runs. What is loaded stays in the model server after it."""
        await self._core.offload(self._core.files.prepare)
        await self._core.offload(clean_leftovers, self._core.files.models, time.time(), _RESUMABLE_SECONDS)
        self._upkeep.take_in(await self._core.offload(self._core.files.scan))
        try:
            async with self._tasks.open():
                self._tasks.spawn(self._server.run())
                self._tasks.spawn(self._upkeep.run())
                yield self
        finally:
            self._core.stopped = True
            self._core.bell.ring()

    # ---- for calls ----

    def try_acquire(self, model: str, version: Version = None, label: str | None = None) -> Lease | None:
        """The right to use a resident model, or None. Asks nobody, waits for nothing, raises nothing."""
        now = self._core.clock()
        number = self._number(model, version, label)
        if number is None:
            newest = self._newest.get(model) if label is None or label == LATEST else None
            if newest is None:
                return None
            entry: Entry | None = newest.entry
            if now >= newest.look_again:
                self._look_for_newer(model, newest, now)
        else:
            entry = self._core.ledger.entries.get(Key(model, number))
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
        lease = self.try_acquire(model, version, label)
        if lease is not None:
            return lease
        key = await self.resolve(model, version, label)
        entry = self._core.ledger.entries.get(key)
        if entry is not None and entry.state is State.AVAILABLE:
            self._core.ledger.acquire(entry, self._core.clock())
            return Lease(entry, self._give_back, was_cold=False)
        return await self._job(key).wait()

    def expected_load_seconds(self, model: str, version: Version = None, label: str | None = None) -> float | None:
        """How long a call would wait for the model now: 0.0 if it is resident; None if nothing is known."""
        number = self._number(model, version, label)
        newest = self._newest.get(model)
        if number is None and newest is not None and newest.entry.state is State.AVAILABLE:
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
        expected = self._load_times.expected(key, None if remote is None else remote.size_bytes)
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
        key = await self.resolve(model, version, label)
        self._core.quarantine.forgive(key)
        entry = self._core.ledger.entries.get(key)
        if entry is None or entry.state is not State.AVAILABLE:
            await self.bring(key)
        return key

    async def warm(self, model: str) -> None:
        """Bring a model that calls are about to come for, as one of those calls would. Raises CacheError."""
        check_name(model)
        key = await self.resolve(model, None, None)
        entry = self._core.ledger.entries.get(key)
        if entry is None or entry.state is not State.AVAILABLE:
            await self.bring(key)

    async def unload(self, model: str, version: Version = None) -> None:
        """Let a model go (all its versions, if none is named) once its calls have ended. Raises Refused, BadName."""
        check_name(model)
        number = None if version is None else check_version(version)
        if model in self._core.ledger.rules.pinned:
            raise Refused(f"Model {model!a} is pinned: unpin it first.")
        keys = [entry.key for entry in self._core.ledger.of_model(model) if number in (None, entry.key.version)]
        for key in keys:
            await self._called_off(key)
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

    # ---- inside ----

    def _number(self, model: str, version: Version, label: str | None) -> int | None:
        """The version asked for, as far as it is known without the store."""
        if version is not None:
            return version if isinstance(version, int) else _digits(version)
        return None if label is None else self._core.settings.labels.get(model, {}).get(label)

    async def resolve(self, model: str, version: Version, label: str | None) -> Key:
        """Which version is meant, asking the store where that takes its list. Raises CacheError."""
        number = self._number(model, version, label)
        if number is not None:
            return Key(model, number)
        if label is not None and label != LATEST:
            raise ModelMissing(f"Model {model!a} has no version with the label {label!a}.")
        try:
            return Key(model, (await self._catalog.newest(model)).version)
        except StoreAway:
            # Whole files on the disk are as good as the store while it is away.
            kept = [entry.key for entry in self._core.ledger.of_model(model) if entry.complete]
            if not kept:
                raise
            return max(kept)

    def _job(self, key: Key) -> Job:
        """The load of that model that is under way, or a new one. Raises CacheError."""
        job = self._jobs.get(key)
        if job is None:
            failure = self._core.quarantine.check(key, self._core.clock())
            if failure is not None:
                raise failure.error()
            if len(self._jobs) >= self._core.settings.max_loads:
                raise Busy("Too many models are on their way to this node already.")
            job = Job(key, self._core.clock(), self._core.settings.max_waiting)
            job.task = self._tasks.spawn(self._run(job))
            job.task.add_done_callback(lambda _: self._ended(job))
            self._jobs[key] = job
        return job

    async def _run(self, job: Job) -> None:
        try:
            entry = await self._loading.bring(job.key)
        except CacheError as failure:
            job.error = failure
            log.warning("model not loaded", extra={"model": str(job.key), "error": failure.cause})
        except Exception as failure:  # a mistake here must reach those who wait, too
            job.error = ModelBroken(f"Model {job.key.model!a} does not load: the cache failed.", repr(failure))
            raise
        else:
            self._arrived(entry, job)

    def _ended(self, job: Job) -> None:
        """The last step of every load, even of one that was called off before its first."""
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
            job.refuse(job.error or Busy(f"The load of model {job.key.model!a} was called off."))

    async def _called_off(self, key: Key) -> None:
        """Return when no load of that model is under way: a fetch is ended, what the server works on is waited for."""
        job, entry = self._jobs.get(key), self._core.ledger.entries.get(key)
        if job is None:
            return
        if job.task is not None and (entry is None or entry.state is not State.LOADING):
            job.task.cancel()
        await job.join()

    def _arrived(self, entry: Entry, job: Job) -> None:
        # Before anything else can happen to the model: who comes after this must not join a load that has ended.
        del self._jobs[job.key]
        now = self._core.clock()
        self._load_times.observe(entry.key, now - job.begun, entry.disk_bytes)
        remote = self._catalog.newest_known(entry.key.model)
        if remote is None or remote.version <= entry.key.version:
            self.serve_as_newest(entry, now)
        job.grant(lambda: self._cold_lease(entry))
        self.carry_out(self._core.ledger.make_reserve(now))

    def _cold_lease(self, entry: Entry) -> Lease:
        self._core.ledger.acquire(entry, self._core.clock())
        return Lease(entry, self._give_back, was_cold=True)

    def _give_back(self, entry: Entry) -> None:
        if self._core.ledger.release(entry):
            self._core.bell.ring_soon()

    async def bring(self, key: Key) -> None:
        """Have a model loaded without using it."""
        job = self._job(key)
        await job.join()
        if job.error is not None:
            raise copy_of(job.error)

    def serve_as_newest(self, entry: Entry, now: float) -> None:
        """Calls that name no version get this one, unless a newer one is available."""
        known = self._newest.get(entry.key.model)
        if known is None or known.entry.state is not State.AVAILABLE or known.entry.key.version <= entry.key.version:
            self._newest[entry.key.model] = _Newest(entry, now + self._core.settings.refresh_seconds)

    def _look_for_newer(self, model: str, newest: _Newest, now: float) -> None:
        newest.look_again = now + self._core.settings.refresh_seconds
        self._tasks.spawn(self._bring_newer(model, newest.entry.key))

    async def _bring_newer(self, model: str, known: Key) -> None:
        """Calls go on with the version they have until the newer one is available; if it fails, they stay with it."""
        try:
            remote = await self._catalog.newest(model, fresh=True)
            if remote.version > known.version:
                await self.bring(Key(model, remote.version))
        except CacheError as error:
            log.warning("no newer version could be had", extra={"model": model, "error": error.cause})

    def carry_out(self, evict: Evict) -> None:
        """Start what an eviction has decided."""
        for key in evict.unload:
            self._core.announce(key.model)
            self._tasks.spawn(self._unloading.drain(self._core.ledger.entries[key]))
        for key in evict.delete:
            if key not in evict.unload:
                self._tasks.spawn(self._core.remove_files(self._core.ledger.entries[key]))

    def _set_pinned(self, models: frozenset[str]) -> None:
        self._core.ledger.rules = replace(self._core.ledger.rules, pinned=models)


def _digits(version: str) -> int:
    """The number; one that no model has, if the text is not a version."""
    return int(version) if len(version) < 20 and version.isascii() and version.isdigit() else -1
