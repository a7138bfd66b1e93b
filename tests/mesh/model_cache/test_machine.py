"""Whatever callers, operators, the store and the server do, in whatever order: what always holds.

The manager runs in virtual time over a store and a server in memory that end each fetch and load when a rule says so,
and write down what must never happen: more models loaded or loading than fit, one loaded or fetched twice at once, one
unloaded under a call. Kept here, independently, are the leases and the waiting calls.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from integration.virtual_time import VirtualLoop
from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import parts_first
from mesh.model_cache.errors import CacheError
from mesh.model_cache.loaders.loader import LoadFailed
from mesh.model_cache.loads.jobs import Lease
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores.store import StoreTransient
from tests.mesh.model_cache.cache import START, Cache, make
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore

MODELS = "abcdef"
SIZES = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 50, "f": 60}
PLACES, DISK, MEMORY = 3, 100, 90
PINNED = "a"
# What models need: nothing; two, and together more than the node has; one that itself needs another.
NEEDS: tuple[dict[str, list[str]], ...] = ({}, {"f": ["b", "c"]}, {"d": ["b"], "c": ["d"]}, {"c": ["b"], "d": ["b"]})


def undone(work: Mapping[Key, asyncio.Future[None]]) -> list[Key]:
    """What may still be ended. What began while the peers worked by themselves ends by itself, and only once."""
    return sorted(key for key, future in work.items() if not future.done())


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="tbms-machine-"))
        self.waiting: dict[asyncio.Task[Lease], str] = {}
        self.unloads: list[asyncio.Task[None]] = []
        self.leases: list[Lease] = []
        self.orphans: set[Lease] = set()  # calls that ended with the server that they were sent to

    @initialize(
        min_age=st.sampled_from([0, 5]),
        disk=st.sampled_from([DISK, None]),
        reserve=st.sampled_from([0, 1]),
        needs=st.sampled_from(NEEDS),
    )
    def start(self, min_age: float, disk: int | None, reserve: int, needs: dict[str, list[str]]) -> None:
        self.loop = VirtualLoop(START)
        self.taken = {model: set(parts_first(model, lambda name: needs.get(name, ()))) for model in MODELS}
        chosen = CacheSettings.model_validate(
            {
                "folder": self.folder,
                "capacity": {"models": PLACES, "memory_bytes": MEMORY} | ({"disk_bytes": disk} if disk else {}),
                "reserve": {"models": reserve},
                "memory_factor": 1,
                "min_age_seconds": min_age,
                "pinned": [PINNED],
                "needs": needs,
                "back_off": {"first_seconds": 1, "most_seconds": 4},
            }
        )

        async def begin() -> Cache:
            store, server = MemoryStore(), MemoryServer(limit=PLACES)
            for model, size in SIZES.items():
                store.put(model, 1, size)
            store.manual = server.manual = True
            server.needs = {model: set(parts) for model, parts in needs.items()}
            server.may_unload = lambda key: all(
                key.model not in self.taken[lease.key.model] for lease in self.leases if lease not in self.orphans
            )
            cache = make(chosen, store, server)
            self.running = cache.running()
            await self.running.__aenter__()
            return cache

        self.cache = self.loop.run_until_complete(begin())
        self.advance(0.5)

    @rule(model=st.sampled_from(MODELS), count=st.integers(1, 3))
    def call(self, model: str, count: int) -> None:
        for _ in range(count):
            task = self.loop.create_task(self.cache.manager.ensure(model))
            self.waiting[task] = model
        self.settle()

    @rule(models=st.lists(st.sampled_from(MODELS), min_size=1, max_size=4))
    def bring(self, models: list[str]) -> None:
        """Calls for which store and server work by themselves."""
        store, server = self.cache.store, self.cache.server
        store.manual = server.manual = False
        for model in models:
            self.waiting[self.loop.create_task(self.cache.manager.ensure(model))] = model
        self.advance(8.0)
        store.manual = server.manual = True

    @rule(model=st.sampled_from(MODELS))
    def hit(self, model: str) -> None:
        async def try_acquire() -> Lease | None:
            return self.cache.manager.try_acquire(model)

        lease = self.loop.run_until_complete(try_acquire())
        if lease is not None:
            self.leases.append(lease)

    @rule()
    def release_all(self) -> None:
        for lease in self.leases:
            self.loop.call_soon(lease.release)
        self.leases.clear()
        self.settle()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        self.leases.remove(lease)
        self.loop.call_soon(lease.release)
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(list(self.waiting)))
        task.cancel()
        self.settle()

    @precondition(lambda self: undone(self.cache.store.fetching))
    @rule(data=st.data(), well=st.sampled_from([True, True, True, False]))
    def fetched(self, data: st.DataObject, well: bool) -> None:
        future = self.cache.store.fetching[data.draw(st.sampled_from(undone(self.cache.store.fetching)))]
        if well:
            future.set_result(None)
        else:
            future.set_exception(StoreTransient("reset"))
        self.settle()

    @precondition(lambda self: undone(self.cache.server.loading))
    @rule(data=st.data(), well=st.sampled_from([True, True, True, False]))
    def loaded(self, data: st.DataObject, well: bool) -> None:
        future = self.cache.server.loading[data.draw(st.sampled_from(undone(self.cache.server.loading)))]
        if well:
            future.set_result(None)
        else:
            future.set_exception(LoadFailed("bad graph"))
        self.settle()

    @rule(seconds=st.sampled_from([0.05, 1.0, 3.0, 20.0]))
    def advance(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.collect()

    @rule(model=st.sampled_from(MODELS[1:]))
    def unload(self, model: str) -> None:
        self.unloads.append(self.loop.create_task(self.cache.manager.commands.unload(model)))
        self.settle()

    @rule(seconds=st.sampled_from([0.05, 1.0, 20.0]))
    def crash_and_restart(self, seconds: float) -> None:
        self.orphans.update(self.leases)
        self.cache.server.die()
        self.advance(seconds)
        self.cache.server.start()
        self.settle()

    def settle(self) -> None:
        """Let everything happen that takes no time."""
        self.advance(0.0001)

    def collect(self) -> None:
        for task, model in list(self.waiting.items()):
            if task.done():
                del self.waiting[task]
                if not task.cancelled() and task.exception() is None:
                    assert task.result().key.model == model
                    self.leases.append(task.result())
                elif not task.cancelled():
                    assert isinstance(task.exception(), CacheError)

    @invariant()
    def promises_fit(self) -> None:
        if self.cache is None:
            return
        models = self.cache.manager.status().models
        there = [each for each in models if each.state in ("available", "fetching", "loading")]
        assert len(there) <= PLACES
        assert sum(each.memory_bytes for each in there) <= MEMORY
        if self.cache.settings.capacity.disk_bytes is not None:
            free = self.cache.manager.node_report.free()
            assert free.disk_bytes >= 0
            on_disk = sum(path.stat().st_size for path in (self.folder / "models").rglob("weights"))
            assert on_disk <= DISK

    @invariant()
    def every_call_in_flight_is_counted_once(self) -> None:
        if self.cache is None:
            return
        counted = {each.model: each.in_flight for each in self.cache.manager.status().models}
        for model in MODELS:
            assert counted.get(model, 0) == sum(model in self.taken[lease.key.model] for lease in self.leases)
        assert self.cache.manager.in_flight == len(self.leases)

    @invariant()
    def nothing_happened_that_must_not(self) -> None:
        assert self.cache is None or self.cache.mistakes == []

    def teardown(self) -> None:
        try:
            if self.cache is not None:
                self.loop.run_until_complete(self.running.__aexit__(None, None, None))
                self.settle()
                assert not self.waiting, "every waiting call gets its answer"
                for unload in self.unloads:
                    assert unload.exception() is None or isinstance(unload.exception(), CacheError)
                assert not asyncio.all_tasks(self.loop)
        finally:
            if self.cache is not None:
                self.loop.close()
            shutil.rmtree(self.folder)


CacheMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
TestCacheMachine = CacheMachine.TestCase
