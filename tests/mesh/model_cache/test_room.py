"""Many models and too little room; restarts of either side."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import Busy, ModelBroken, NoRoom
from mesh.model_cache.settings import CacheSettings
from tests.mesh.model_cache.cache import Cache, play

FOUR = "abcd"


def four(cache: Cache, size: int = 100) -> None:
    for name in FOUR:
        cache.store.put(name, size=size)


def available(cache: Cache) -> str:
    return "".join(sorted(each.model for each in cache.manager.status().models if each.state == "available"))


def test_the_least_recently_used_goes_from_server_and_disk(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            for name in "abac":
                (await manager.ensure(name)).release()
            assert available(cache) == "ac"
            assert cache.server.held_now == {Key("a", 1), Key("c", 1)}
            await asyncio.sleep(1)
            assert cache.versions_on_disk == {"a:1", "c:1"}
            assert {path.name for path in (tmp_path / "models").iterdir()} == {"a", "c"}
            assert list((tmp_path / "trash").iterdir()) == []

    play(tmp_path, scenario, capacity={"models": 2})


def test_files_stay_within_the_disk_and_save_the_fetch(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            for name in "aba":
                (await manager.ensure(name)).release()
            assert cache.store.fetched[Key("a", 1)] == 1
            assert cache.versions_on_disk == {"a:1", "b:1"}
            for name in "cd":
                (await manager.ensure(name)).release()
            await asyncio.sleep(1)
            assert len(cache.versions_on_disk) == 3
            assert available(cache) == "d"

    play(tmp_path, scenario, capacity={"models": 1, "disk_bytes": 300})


def test_files_that_the_store_has_changed_are_fetched_anew(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            (await manager.ensure("a")).release()
            await manager.commands.unload("a")
            cache.store.put("a", digest="another")
            await asyncio.sleep(61)
            (await manager.ensure("a")).release()
            assert cache.store.fetched[Key("a", 1)] == 2

    play(tmp_path, scenario, capacity={"disk_bytes": 1000})


def test_a_model_larger_than_the_node_is_refused_at_once_and_evicts_nobody(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        cache.store.put("huge", size=5 << 20)
        async with cache.running() as manager:
            (await manager.ensure("a")).release()
            with pytest.raises(NoRoom, match=r"'huge' is too large .* it takes 5 MiB of memory, .* has 1 MiB"):
                await manager.ensure("huge")
            assert available(cache) == "a"
            assert Key("huge", 1) not in cache.store.fetched

    play(tmp_path, scenario, capacity={"memory_bytes": "1MiB"})


def test_a_load_waits_for_room_and_gets_it(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            lease = await manager.ensure("a")
            waiting = asyncio.create_task(manager.ensure("b"))
            await asyncio.sleep(1.5)
            lease.release()
            assert (await waiting).key.model == "b"

    play(tmp_path, scenario, capacity={"models": 1})


def test_a_load_that_finds_no_room_says_so_in_time_and_is_no_failure(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            lease = await manager.ensure("a")
            before = asyncio.get_running_loop().time()
            with pytest.raises(Busy, match="in use, pinned or on its way") as raised:
                await manager.ensure("b")
            assert asyncio.get_running_loop().time() - before == pytest.approx(2, abs=0.1)
            assert raised.value.retry_after > 0
            lease.release()
            (await manager.ensure("b")).release()

    play(tmp_path, scenario, capacity={"models": 1})


def test_a_young_model_is_not_evicted_until_it_is_old_enough(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            (await manager.ensure("a")).release()
            with pytest.raises(Busy, match="loaded a moment ago"):
                await manager.ensure("b")
            assert available(cache) == "a"
            await asyncio.sleep(27)
            (await manager.ensure("b")).release()  # waits for the last second

    play(tmp_path, scenario, capacity={"models": 1}, min_age_seconds=30)


def test_the_reserve_lets_the_next_load_begin_at_once(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            for name in "abc":
                (await manager.ensure(name)).release()
                await asyncio.sleep(3)
            assert available(cache) == "bc"
            unloads = len(cache.server.unloads)
            cache.store.manual = True
            loading = asyncio.create_task(manager.ensure("d"))
            await asyncio.sleep(0.05)
            assert Key("d", 1) in cache.store.fetching, "nobody had to go first"
            assert len(cache.server.unloads) == unloads
            cache.store.fetching[Key("d", 1)].set_result(None)
            (await loading).release()

    play(tmp_path, scenario, capacity={"models": 3}, reserve={"models": 1})


def test_measured_memory_counts(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        cache.server.memory["a"] = 900
        async with cache.running() as manager:
            for name in "ab":
                (await manager.ensure(name)).release()
            assert available(cache) == "ab"
            (await manager.ensure("c")).release()
            assert available(cache) == "bc"

    play(tmp_path, scenario, capacity={"memory_bytes": 1050})


def test_a_model_that_is_not_let_go_stays_draining_and_is_tried_again(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            (await manager.ensure("a")).release()
            cache.server.stubborn.add(Key("a", 1))
            waiting = asyncio.create_task(manager.ensure("b"))
            await asyncio.sleep(10)
            assert (cache.state("a"), cache.state("b")) == ("draining", "fetching")
            assert [each.cause for each in manager.status().models if each.model == "a"] == ["not now"]
            cache.server.stubborn.clear()
            (await waiting).release()
            assert available(cache) == "b"

    play(tmp_path, scenario, capacity={"models": 1})


def test_a_restarted_server_is_refilled_the_last_used_first(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            for name in "abcdb":
                (await manager.ensure(name)).release()
            cache.server.die()
            await asyncio.sleep(5)
            cache.server.start()
            cache.server.loads.clear()
            await asyncio.sleep(20)
            assert [key.model for key in cache.server.loads] == list("bdca")
            assert available(cache) == "abcd"
            assert set(cache.store.fetched.values()) == {1}

    play(tmp_path, scenario, refill_concurrency=1)


def test_a_call_is_held_through_a_restart_of_the_server(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            cache.server.manual = True
            call = asyncio.create_task(manager.ensure("a"))
            await asyncio.sleep(2)
            assert Key("a", 1) in cache.server.loading
            cache.server.manual = False
            cache.server.die()
            await asyncio.sleep(20)
            assert not call.done()
            assert "refused" in manager.status().server
            cache.server.start()
            (await call).release()
            assert cache.store.fetched[Key("a", 1)] == 1

    play(tmp_path, scenario)


def test_a_server_that_stays_away_is_busy_and_not_the_models_fault(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            (await manager.ensure("b")).release()
            cache.server.die()
            await asyncio.sleep(5)
            with pytest.raises(Busy, match="model server of this node is away"):
                await manager.ensure("a")
            cache.server.start()
            await asyncio.sleep(5)
            (await manager.ensure("a")).release()

    play(tmp_path, scenario)


def test_a_model_that_kills_the_server_each_time_is_quarantined(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        cache.server.manual = True
        async with cache.running() as manager:
            call = asyncio.create_task(manager.ensure("a"))
            deaths = 0
            while not call.done():
                await asyncio.sleep(1)
                if Key("a", 1) in cache.server.loading:
                    deaths += 1
                    cache.server.die()
                    await asyncio.sleep(3)
                    cache.server.start()
            with pytest.raises(ModelBroken, match="the model server ended 3 times under it"):
                await call
            assert deaths == 3
            assert cache.state("a") == "failed"

    play(tmp_path, scenario)


def test_another_process_adopts_what_the_server_holds(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            for name in "ab":
                (await manager.ensure(name)).release()
        again = cache.again()
        async with again.running() as manager:
            await asyncio.sleep(1)
            loads = len(cache.server.loads)
            assert available(again) == "ab"
            assert manager.try_acquire("a") is not None
            (await manager.ensure("c")).release()
            assert available(again) == "ac"
            assert len(cache.server.loads) == loads + 1

    play(tmp_path, scenario, capacity={"models": 2})


@pytest.mark.parametrize(("capacity", "fetches"), [({"disk_bytes": 1000}, 1), ({}, 2)])
def test_what_a_kill_has_left_on_the_disk(tmp_path: Path, capacity: dict[str, int], fetches: int) -> None:
    """Agent and server were killed after the fetch of `a`, and in the middle of a removal."""

    async def scenario(cache: Cache) -> None:
        four(cache)
        async with cache.running() as manager:
            (await manager.ensure("a")).release()
        cache.server.held_now.clear()
        (tmp_path / "trash" / "half-removed").mkdir()
        (tmp_path / "models" / "stranger.txt").write_text("not ours")
        again = cache.again()
        async with again.running() as manager:
            await asyncio.sleep(1)
            assert list((tmp_path / "trash").iterdir()) == []
            (await manager.ensure("a")).release()
            assert available(again) == "a"
            assert cache.store.fetched[Key("a", 1)] == fetches

    play(tmp_path, scenario, capacity=capacity)


def test_a_reserve_that_leaves_no_room_is_a_mistake_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="the reserve leaves no room for a model"):
        CacheSettings(folder=tmp_path, capacity={"models": 2}, reserve={"models": 2})
