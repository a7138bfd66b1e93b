"""Known calls and the model cache in virtual time: what is in the map, and what is waited for before an unload."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ext_proc.access_log.entries import EndedCall
from ext_proc.known.departures import SETTLES
from ext_proc.known.keeper import Written
from ext_proc.node.known_calls import UNTOLD_SECONDS, KnownCalls
from ext_proc.wire.call import Call, InferenceProtocol, Verb
from integration.virtual_time import VirtualLoop
from mesh.model_cache.books.names import Key
from mesh.model_cache.manager import Manager
from mesh.model_cache.settings import CacheSettings
from mesh.routing.settings import KnownSettings
from tests.mesh.model_cache.cache import START, Cache, at_once
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore

REST = 1


class Scene:
    """A cache with room for two models, and an Envoy that takes maps in when the test says so."""

    def __init__(self, known: KnownCalls, cache: Cache, clock: Callable[[], float]) -> None:
        self.known, self.cache, self.clock = known, cache, clock
        self.table = known.keeper.known
        self.version = self.written = 0
        self.gathered: set[str] = set()

    async def load(self, *models: str) -> None:
        for model in models:
            (await self.cache.manager.ensure(model)).release()
            for _ in range(2):
                self.known.went_well(model, REST, self.clock())

    def write(self) -> set[str]:
        """The keeper's look, and its file."""
        for _ in self.table.look(self.clock()):
            pass
        if self.table.version != self.version:
            self.version = self.table.version
            self.written += 1
            self.known.writes(self.written, self.table.models)
        return {model.name for model in self.table.models}

    async def take(self, active: int = 1) -> None:
        """All of Envoy's workers go by the file; the keeper has asked."""
        self.known.told(self.written, active)
        news, self.known.keeper._news = self.known.keeper._news, asyncio.Event()
        news.set()
        await asyncio.sleep(0)

    async def in_force(self, *models: str) -> None:
        """Envoy goes by a map of these models, which are loaded for it, and has for a while."""
        await self.load(*models)
        self.write()
        await self.take()
        assert self.write() == set(models)
        await self.take()
        await asyncio.sleep(2 * SETTLES)

    def ends(self, model: str, lacking: bool = False, stands_for: int = 1) -> None:
        self.known.ended([EndedCall(call(model), "", True, 0.01, None, lacking, stands_for)], self.clock())

    def runs(self, model: str) -> None:
        self.known.running_calls([call(model)], self.clock())

    def loaded(self, model: str) -> bool:
        return Key(model, 1) in self.cache.server.held_now


def call(model: str) -> Call:
    return Call(InferenceProtocol.TFS_REST, Verb.PREDICT, model)


def play(folder: Path, scenario: Callable[[Scene], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        gathered: set[str] = set()
        known = KnownCalls(
            KnownSettings(seconds=1.0),
            folder / "known.pb",
            "127.0.0.1:1",
            rest="127.0.0.1:8501",
            grpc="127.0.0.1:8500",
            gathers=gathered.__contains__,
            clock=clock,
        )
        given = {"folder": folder, "min_age_seconds": 0, "capacity": {"models": 2}, **settings}
        chosen = CacheSettings.model_validate(given)
        store, server = MemoryStore(), MemoryServer(limit=3)
        for model in "abcde":
            store.put(model)
        manager = Manager(chosen, store, server, clock=clock, offload=at_once, carried=known.let_go)
        known._cache = manager.carried_calls(SETTLES, known._changed)
        async with manager.running():
            scene = Scene(known, Cache(store, server, chosen, manager), clock)
            scene.gathered = gathered
            await scenario(scene)
        known._timer.close()
        assert store.mistakes + server.mistakes == []

    with asyncio.Runner(loop_factory=partial(VirtualLoop, START)) as runner:
        runner.run(main())


def unload(scene: Scene, model: str) -> "asyncio.Task[None]":
    return asyncio.create_task(scene.cache.manager.commands.unload(model))


def test_it_is_out_of_the_map_then_out_of_envoy_then_its_calls_have_told_then_it_is_unloaded(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        unloading = unload(scene, "a")
        await asyncio.sleep(5)
        assert scene.cache.state("a") == "draining"
        assert scene.loaded("a"), "it may be called by the map that Envoy has"
        assert scene.write() == {"b"}
        await asyncio.sleep(5)
        assert scene.loaded("a"), "written is not taken"
        await scene.take()
        await asyncio.sleep(0.9 * SETTLES)
        assert scene.loaded("a"), "a call that has just come has not told of itself"
        await asyncio.sleep(0.3 * SETTLES)
        assert not scene.loaded("a")
        await unloading

    play(tmp_path, scenario)


def test_a_call_that_runs_holds_its_model(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        unloading = unload(scene, "a")
        await asyncio.sleep(0.1)
        scene.write()
        await scene.take()
        for _ in range(40):
            await asyncio.sleep(0.25)
            scene.runs("a")
            assert scene.loaded("a")
        assert scene.cache.manager.in_flight == 1
        await asyncio.sleep(0.9 * SETTLES)
        assert scene.loaded("a")
        await unloading
        assert not scene.loaded("a")
        assert scene.cache.manager.in_flight == 0

    play(tmp_path, scenario)


def test_a_model_that_has_left_the_map_before_goes_at_once(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        for _ in range(15):
            scene.ends("b")
            await asyncio.sleep(1)
        assert scene.write() == {"b"}, "nobody calls a"
        await scene.take()
        await asyncio.sleep(2 * SETTLES)
        async with asyncio.timeout(0.2):
            await scene.cache.manager.commands.unload("a")
        assert not scene.loaded("a")

    play(tmp_path, scenario)


def test_an_idle_envoy_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        unloading = unload(scene, "a")
        await asyncio.sleep(0.1)
        scene.write()
        await scene.take(active=0)
        async with asyncio.timeout(0.2):
            await unloading

    play(tmp_path, scenario)


@pytest.mark.parametrize("gone", [True, False])
def test_an_envoy_that_says_nothing_is_waited_for_unless_it_is_gone(tmp_path: Path, gone: bool) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        unloading = unload(scene, "a")
        await asyncio.sleep(0.1)
        scene.write()
        scene.known.keeper.written = Written(scene.written, "", 0, 0, scene.clock())
        scene.known.away(refused=gone)
        assert scene.write() == set(), "who does not hear Envoy has it know nothing"
        await asyncio.sleep(UNTOLD_SECONDS - 5)
        assert scene.loaded("a") is not gone
        await asyncio.sleep(6)
        assert not scene.loaded("a")
        assert scene.known.untold == (0 if gone else 1)
        await unloading

    play(tmp_path, scenario)


def test_an_envoy_without_a_filter_that_reads_the_map_is_not_waited_for(tmp_path: Path) -> None:
    """Its configuration is an older one: a node that could have a map is none the worse for it."""

    async def scenario(scene: Scene) -> None:
        await scene.load("a", "b")
        assert scene.write() == set(), "Envoy has told of no map"
        scene.known.has_none(scene.written)
        assert scene.write() == set()
        async with asyncio.timeout(0.2):
            await scene.cache.manager.commands.unload("a")
        assert scene.known.untold == 0

    play(tmp_path, scenario)


def test_an_envoy_that_has_lost_its_filter_begins_with_the_map_that_lay_there(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        unloading = unload(scene, "a")
        await asyncio.sleep(0.1)
        scene.known.has_none(scene.written)
        assert scene.write() == set(), "it has nothing known either"
        await asyncio.sleep(2 * SETTLES)
        assert scene.loaded("a"), "the map that lay there has it, and Envoy may be about to read that"
        scene.known.has_none(scene.written)
        async with asyncio.timeout(1.1):
            await unloading

    play(tmp_path, scenario)


def test_after_a_start_nothing_goes_before_envoy_has_a_map_of_ours(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.load("a")
        unloading = unload(scene, "a")
        await asyncio.sleep(1)
        scene.known.told(0, 1)
        await asyncio.sleep(1)
        assert scene.loaded("a"), "by a map of the process before"
        assert scene.write() == set()
        await scene.take()
        await asyncio.sleep(1.2 * SETTLES)
        assert not scene.loaded("a")
        await unloading

    play(tmp_path, scenario)


def test_who_may_be_in_the_map(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.cache.store.put("whole", parts=["d"])
        await scene.in_force("a")
        scene.gathered.add("a")
        assert scene.write() == set(), "its calls are the batcher's"
        scene.gathered.clear()
        assert scene.write() == {"a"}
        scene.cache.server.die()
        await asyncio.sleep(1)
        assert scene.write() == set(), "its model server may have come back empty"

    play(tmp_path, scenario)


def test_models_that_need_others_are_not(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.cache.store.put("whole", parts=["d"])
        scene.known.told(0, 1)
        await scene.load("whole", "d")
        assert scene.write() == {"d"}

    play(tmp_path, scenario)


@pytest.mark.parametrize(("stands_for", "seconds"), [(1, 0.2), (16, 3.0)])
def test_eviction_takes_what_nobody_calls_though_the_others_are_heard_of_late(
    tmp_path: Path, stands_for: int, seconds: float
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        for _ in range(20):
            scene.ends("a", stands_for=stands_for)
            await asyncio.sleep(seconds)
        scene.cache.manager.try_acquire("b").release()  # type: ignore[union-attr]
        await asyncio.sleep(0.1)
        cold = asyncio.create_task(scene.cache.manager.ensure("c"))
        await asyncio.sleep(2)
        assert scene.cache.state("b") == "draining", "asked for 0.1 s ago; a was heard of before that, and is called"
        assert scene.write() == {"a"}
        await scene.take()
        (await cold).release()
        assert scene.cache.state("a") == "available"

    play(tmp_path, scenario)


def test_a_model_under_a_long_known_call_is_no_victim(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        scene.runs("a")
        scene.ends("b")
        cold = asyncio.create_task(scene.cache.manager.ensure("c"))
        await asyncio.sleep(0.1)
        assert scene.cache.state("a") == "available"
        assert scene.cache.state("b") == "draining"
        scene.write()
        await scene.take(active=0)
        (await cold).release()

    play(tmp_path, scenario)


def test_a_call_that_lacks_its_model_has_the_server_looked_at_and_the_model_asked_about(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a", "b")
        scene.cache.server.held_now.discard(Key("a", 1))
        scene.ends("a", lacking=True)
        scene.ends("b")
        assert scene.write() == {"b"}
        await asyncio.sleep(3)
        assert scene.loaded("a"), "it was loaded again"
        assert scene.write() == {"b"}, "nobody has called it since in a way that went well"
        await scene.load("a")
        assert scene.write() == {"a", "b"}

    play(tmp_path, scenario, poll_seconds=60.0)


def test_a_newer_version_takes_over_and_the_older_is_not_unloaded_under_a_call(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.in_force("a")
        scene.cache.store.put("a", 2)
        await asyncio.sleep(2)
        scene.ends("a")  # has the store asked
        await asyncio.sleep(5)
        assert scene.cache.state("a", 2) == "available"
        assert scene.write() == {"a"}, "Envoy's calls go to whichever the model server says"
        scene.runs("a")
        unloading = asyncio.create_task(scene.cache.manager.commands.unload("a", 1))
        await asyncio.sleep(0.1)
        assert scene.write() == set(), "who runs in which version is not known"
        await scene.take()
        await asyncio.sleep(0.5 * SETTLES)
        scene.runs("a")
        await asyncio.sleep(0.9 * SETTLES)
        assert scene.loaded("a")
        await unloading
        assert scene.write() == {"a"}

    play(tmp_path, scenario, refresh_seconds=1.0)
