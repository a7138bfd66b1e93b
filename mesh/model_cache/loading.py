"""Bringing one model version: what the store knows of it, room, its files, and the model server's yes."""

import asyncio
import errno
import logging
from collections.abc import Callable

from mesh.model_cache.catalog import Catalog
from mesh.model_cache.core import Core
from mesh.model_cache.errors import Busy, CacheError, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.model_cache.loader import Loader, LoadFailed, ServerAway
from mesh.model_cache.names import Key
from mesh.model_cache.plan import Evict, TooLarge, Wait
from mesh.model_cache.server import ServerWatch
from mesh.model_cache.states import Entry, State
from mesh.model_cache.store import Remote, Store, StoreCorrupt, StoreError, StoreFull, StoreMissing

log = logging.getLogger(__name__)

_DEATHS = 3  # times that a server may go away under one load before the model is held to be the reason
_WORDS = 500  # characters of a model server's explanation that are handed on


class Loading:
    """The steps from a wanted model to an available one. `bring` runs at most once at a time for a key.

    `carry_out` starts what an eviction has decided.
    """

    def __init__(
        self,
        core: Core,
        catalog: Catalog,
        store: Store,
        loader: Loader,
        server: ServerWatch,
        carry_out: Callable[[Evict], None],
    ) -> None:
        self._core = core
        self._catalog = catalog
        self._store = store
        self._loader = loader
        self._server = server
        self._carry_out = carry_out
        self._fetches = asyncio.Semaphore(core.settings.fetch_concurrency)

    async def bring(self, key: Key) -> Entry:
        """Return once the model is AVAILABLE. Raises CacheError; what was begun is undone or kept for the next time."""
        await self._server.known()
        await self._core.settled(key)
        entry = self._core.ledger.entries.get(key)
        if entry is not None and entry.state is State.AVAILABLE:
            return entry
        entry, remote = await self._admitted(key)
        try:
            await self._room(entry)
            if not entry.complete:
                await self._fetch(entry, remote)
            await self._load(entry)
        except BaseException as error:
            await self._undo(entry, error)
            raise
        return entry

    async def _remote(self, key: Key) -> Remote:
        """What is to be brought. Whole files on the disk are as good as the store, unless it has others by now."""
        entry = self._core.ledger.entries.get(key)
        if entry is None or not entry.complete:
            return await self._catalog.find(key)
        remote = self._catalog.known(key)
        if entry.state is State.FAILED:
            try:
                remote = await self._catalog.find(key)
            except StoreAway:
                if not entry.complete:
                    raise
        if remote is not None and remote.digest != entry.digest:
            await self._core.remove_files(entry)
            return remote
        return Remote(key.model, key.version, entry.disk_bytes, entry.digest)

    async def _admitted(self, key: Key) -> tuple[Entry, Remote]:
        core = self._core
        deadline = core.clock() + core.settings.room_seconds
        while True:
            await core.settled(key)
            remote = await self._remote(key)
            if core.is_going(key):
                continue
            memory = core.memory_estimate(key.model, remote.size_bytes)
            now = core.clock()
            entry = core.ledger.open(key, now)
            verdict = core.ledger.admit(entry, remote.size_bytes, memory, now)
            if isinstance(verdict, Evict):
                core.announce(key.model)
                self._carry_out(verdict)
                return entry, remote
            core.ledger.forget_if_empty(entry)
            if isinstance(verdict, TooLarge):
                raise NoRoom(f"Model {key.model!a} is too large for this node: {verdict.reason}.")
            await self._wait_for_room(key, verdict, deadline)

    async def _wait_for_room(self, key: Key, wait: Wait, deadline: float) -> None:
        now = self._core.clock()
        if now >= deadline:
            raise Busy(f"This node has no room for model {key.model!a} now: {wait.reason}.")
        until = deadline if wait.until is None else min(deadline, wait.until)
        await self._core.bell.wait(until - now)

    async def _room(self, entry: Entry) -> None:
        """Wait until those who make room are gone."""
        deadline = self._core.clock() + self._core.settings.load_seconds
        while not self._core.ledger.may_begin(entry):
            left = deadline - self._core.clock()
            if left <= 0:
                raise Busy(f"This node has no room for model {entry.key.model!a} now: another one is not let go.")
            await self._core.bell.wait(left)
        entry.begun = True

    async def _fetch(self, entry: Entry, remote: Remote) -> None:
        core, key = self._core, entry.key
        stall = core.settings.fetch_stall_seconds
        loop = asyncio.get_running_loop()
        async with self._fetches:
            try:
                async with asyncio.timeout(stall) as limit:

                    def progress(done: int) -> None:
                        entry.fetched_bytes = done
                        if not limit.expired():
                            limit.reschedule(loop.time() + stall)

                    await self._store.fetch(remote, core.files.version(key), progress)
            except TimeoutError:
                cause = f"The fetch of model {key} made no progress for {stall:g} s."
                raise StoreAway(_cannot_fetch(key), cause) from None
            except (StoreError, OSError) as error:
                self._catalog.drop(key.model)  # it may have changed since it was listed
                raise _refusal(key, error) from error
        await core.offload(core.files.note, key, remote.digest)
        entry.complete = True
        entry.digest = remote.digest
        entry.fetched_bytes = entry.disk_bytes

    async def _load(self, entry: Entry) -> None:
        core, key = self._core, entry.key
        core.move(entry, State.LOADING)
        for _ in range(_DEATHS):
            await self._server.up()
            try:
                async with asyncio.timeout(core.settings.load_seconds):
                    loaded = await self._loader.load(key, core.files.model(key.model))
            except ServerAway as error:
                log.warning("model server went away under a load", extra={"model": str(key), "error": str(error)})
                self._server.gone()
                continue
            except LoadFailed as error:
                raise ModelBroken(f"Model {key.model!a} does not load: {str(error)[:_WORDS]}") from error
            except TimeoutError:
                seconds = core.settings.load_seconds
                raise ModelBroken(f"Model {key.model!a} does not load: not ready after {seconds:g} s.") from None
            core.quarantine.forgive(key)
            if loaded.memory_bytes is not None and key.model not in core.settings.memory_bytes:
                entry.memory_bytes = loaded.memory_bytes
            core.move(entry, State.AVAILABLE)
            return
        raise ModelBroken(f"Model {key.model!a} does not load: the model server ended {_DEATHS} times under it.")

    async def _undo(self, entry: Entry, error: BaseException) -> None:
        """The books after a load that failed or was called off. Files that arrived stay for the next try."""
        core = self._core
        was_loading = entry.state is State.LOADING
        entry.begun = False
        entry.memory_bytes = 0
        if not entry.complete:
            entry.disk_bytes = entry.fetched_bytes
        if isinstance(error, CacheError) and not isinstance(error, Busy):
            core.quarantine.record(entry.key, error, core.clock())
            core.move(entry, State.FAILED, error.cause)
        else:
            core.move(entry, State.ABSENT)
        if isinstance(error, asyncio.CancelledError):
            core.ledger.forget_if_empty(entry)
            return
        spoilt = isinstance(error.__cause__, StoreCorrupt)
        if entry.disk_bytes and (spoilt or (entry.complete and not core.ledger.rules.keep_files)):
            await core.remove_files(entry)
        if was_loading:
            await self._let_go(entry.key)
        core.ledger.forget_if_empty(entry)

    async def _let_go(self, key: Key) -> None:
        """A server that failed to load a model may still try: tell it to stop, as far as it can be told."""
        try:
            async with asyncio.timeout(self._core.settings.poll_seconds):
                await self._loader.unload(key, self._core.files.model(key.model))
        except (LoadFailed, ServerAway, TimeoutError) as error:
            log.info("no unload after a failed load", extra={"model": str(key), "error": str(error)})


def _refusal(key: Key, error: StoreError | OSError) -> CacheError:
    """What the client is told about a fetch that failed."""
    if isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return NoRoom(f"Model {key.model!a} is too large for what this node's disk has free.", str(error))
    if isinstance(error, StoreMissing):
        return ModelMissing(f"Version {key.version} of model {key.model!a} is no longer in its store.", str(error))
    if isinstance(error, StoreCorrupt):
        return ModelBroken(f"Model {key.model!a} is damaged in its store.", str(error))
    return StoreAway(_cannot_fetch(key), str(error))


def _cannot_fetch(key: Key) -> str:
    return f"Model {key.model!a} cannot be fetched now: its store does not answer as it should."
