"""Models that need other models: they come together, are used together, and go in order."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.needs import MAX_NEEDED, Need
from mesh.model_cache.errors import Busy, ModelBroken, NoRoom, Refused, StoreAway
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores.store import StoreTransient
from mesh.residency.state import Residency
from tests.mesh.model_cache.cache import Cache, play


def fill(cache: Cache) -> None:
    """An ensemble `pair` of `first` and `second`, and models of their own."""
    for name in ("first", "second", "x", "y", "z"):
        cache.store.put(name)
    ensemble(cache, "pair", "first", "second")


def ensemble(cache: Cache, name: str, *parts: str | Need, version: int = 1) -> None:
    cache.store.put(name, version, 10, parts=parts)
    cache.server.needs[name] = {part if isinstance(part, str) else part.model for part in parts}


def available(cache: Cache) -> set[str]:
    models = cache.manager.status().models
    return {f"{each.model}:{each.version}" for each in models if each.state == "available"}


def in_flight(cache: Cache) -> dict[str, int]:
    return {each.model: each.in_flight for each in cache.manager.status().models if each.in_flight}


def test_an_ensemble_is_loaded_after_its_parts_and_counts_as_their_use(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            leases = await asyncio.gather(*(manager.ensure("pair") for _ in range(5)))
            assert cache.server.loads[-1] == Key("pair", 1)
            assert sorted(cache.server.loads) == [("first", 1), ("pair", 1), ("second", 1)]
            assert in_flight(cache) == {"pair": 5, "first": 5, "second": 5}
            assert manager.in_flight == 5
            residency = manager.node_report.residency().models
            assert residency == dict.fromkeys(("pair", "first", "second"), Residency.AVAILABLE)
            for lease in leases:
                assert lease.key == Key("pair", 1)
                lease.release()
                lease.release()
            assert manager.in_flight == 0
            assert in_flight(cache) == {}
            hit = manager.try_acquire("pair")
            assert hit is not None
            assert in_flight(cache) == {"pair": 1, "first": 1, "second": 1}
            hit.release()

    play(tmp_path, scenario)


def test_parts_go_after_the_ensemble_and_never_before(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            lease = await manager.ensure("pair")
            with pytest.raises(Busy, match="no room for model 'x'"):
                await manager.ensure("x")
            lease.release()
            (await manager.ensure("x")).release()
            assert available(cache) == {"first:1", "second:1", "x:1"}
            (await manager.ensure("y")).release()
            assert available(cache) == {"second:1", "x:1", "y:1"}
            (await manager.ensure("pair")).release()
            assert available(cache) == {"first:1", "second:1", "pair:1"}
            assert cache.server.loads.count(Key("second", 1)) == 1, "it was there, and was spared"

    play(tmp_path, scenario, capacity={"models": 3}, room_seconds=2)


def test_several_victims_of_one_decision_go_in_order(tmp_path: Path) -> None:
    """A model that takes the room of all three: the ensemble is unloaded before its parts are."""

    async def scenario(cache: Cache) -> None:
        fill(cache)
        cache.store.put("large", size=200)
        async with cache.running() as manager:
            (await manager.ensure("pair")).release()
            (await manager.ensure("large")).release()
            assert available(cache) == {"large:1"}
            assert cache.server.unloads[0] == Key("pair", 1)
            assert sorted(cache.server.unloads) == [("first", 1), ("pair", 1), ("second", 1)]

    play(tmp_path, scenario, capacity={"memory_bytes": 210})


def test_a_part_of_two_ensembles_stays_for_the_other(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "other", "second")
        async with cache.running() as manager:
            (await manager.ensure("pair")).release()
            (await manager.ensure("other")).release()
            assert cache.server.loads.count(Key("second", 1)) == 1
            for name in ("x", "y"):
                (await manager.ensure(name)).release()
            assert available(cache) == {"second:1", "other:1", "x:1", "y:1"}
            assert manager.try_acquire("other") is not None

    play(tmp_path, scenario, capacity={"models": 4})


def test_room_is_found_for_all_at_once_or_not_at_all(tmp_path: Path) -> None:
    """Two ensembles of three that the node can hold one of: none takes a place that it cannot use."""

    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "rival", "x", "y")
        async with cache.running() as manager:
            calls = [asyncio.create_task(manager.ensure(name)) for name in ("pair", "rival")]
            await asyncio.sleep(1)
            fetching = {each.model for each in manager.status().models if each.state == "fetching"}
            assert fetching in ({"pair", "first", "second"}, {"rival", "x", "y"})
            (await calls[0]).release()
            (await calls[1]).release()
            assert available(cache) == {"rival:1", "x:1", "y:1"}

    play(tmp_path, scenario, capacity={"models": 3}, room_seconds=30)


def test_a_set_that_is_larger_than_the_node_is_refused_before_anything_goes(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            for name in ("first", "x"):
                (await manager.ensure(name)).release()
            with pytest.raises(NoRoom, match="with the models that it needs: it takes 3 places, and the node has 2"):
                await manager.ensure("pair")
            assert available(cache) == {"first:1", "x:1"}

    play(tmp_path, scenario, capacity={"models": 2})


def test_what_the_configuration_declares_is_needed_as_well(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        cache.server.needs["z"] = {"pair", "y"}
        async with cache.running() as manager:
            (await manager.ensure("z")).release()
            assert cache.server.loads[-1] == Key("z", 1)
            assert available(cache) == {"z:1", "y:1", "pair:1", "first:1", "second:1"}
            assert {each.model: each.needs for each in manager.status().models}["z"] == ("pair", "y")
            for name in ("first", "pair"):
                with pytest.raises(Refused, match=r"is needed by '(pair|z)'"):
                    await manager.commands.unload(name)
            await manager.commands.unload("z")
            await manager.commands.unload("pair")
            await manager.commands.unload("first")
            assert available(cache) == {"y:1", "second:1"}

    play(tmp_path, scenario, needs={"z": ["pair", "y"]})


def test_a_part_that_is_on_its_way_already_is_joined(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        cache.store.manual = True
        async with cache.running() as manager:
            direct = asyncio.create_task(manager.ensure("first"))
            await asyncio.sleep(1)
            whole = asyncio.create_task(manager.ensure("pair"))
            later = asyncio.create_task(manager.ensure("second"))
            await asyncio.sleep(1)
            assert set(cache.store.fetching) == {("first", 1), ("second", 1), ("pair", 1)}
            cache.store.manual = False
            for fetch in list(cache.store.fetching.values()):
                fetch.set_result(None)
            for task in (direct, whole, later):
                (await task).release()
            assert set(cache.store.fetched.values()) == {1}
            assert len(cache.server.loads) == 3

    play(tmp_path, scenario)


def test_a_part_that_waits_for_room_of_its_own_is_waited_for(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            lease = await manager.ensure("x")
            other = await manager.ensure("y")
            third = await manager.ensure("z")
            direct = asyncio.create_task(manager.ensure("first"))
            await asyncio.sleep(0.5)
            whole = asyncio.create_task(manager.ensure("pair"))
            await asyncio.sleep(0.5)
            for each in (lease, other, third):
                each.release()
            (await direct).release()
            (await whole).release()
            assert available(cache) == {"first:1", "second:1", "pair:1"}
            assert cache.store.fetched[Key("first", 1)] == 1

    play(tmp_path, scenario, capacity={"models": 3}, room_seconds=20)


def test_a_part_that_fails_is_named_and_tried_again_by_its_own_back_off_alone(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "outer", "pair")
        cache.server.broken["second"] = "bad graph"
        words = "Model 'outer' needs model 'pair': Model 'pair' needs model 'second': .* does not load: bad graph"
        async with cache.running() as manager:
            with pytest.raises(ModelBroken, match=words):
                await manager.ensure("outer")
            assert (cache.state("second"), cache.state("pair"), cache.state("outer")) == ("failed", "absent", "absent")
            loads = len(cache.server.loads)
            for _ in range(5):
                with pytest.raises(ModelBroken, match=r"Model 'pair' needs model 'second': .*bad graph"):
                    await manager.ensure("pair")
            assert len(cache.server.loads) == loads, "not before its back-off is over"
            del cache.server.broken["second"]
            await asyncio.sleep(5)
            (await manager.ensure("outer")).release()
            assert available(cache) == {"outer:1", "pair:1", "first:1", "second:1"}

    play(tmp_path, scenario, back_off={"first_seconds": 5})


def test_an_operator_loads_it_in_spite_of_what_its_parts_did(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "widow", "first", "nobody")
        cache.server.broken["second"] = "bad graph"
        async with cache.running() as manager:
            for name in ("pair", "widow"):
                with pytest.raises(ModelBroken):
                    await manager.ensure(name)
            del cache.server.broken["second"]
            cache.store.put("nobody")
            for name in ("pair", "widow"):
                assert await manager.commands.load(name) == Key(name, 1)

    play(tmp_path, scenario, missing_seconds=600)


def test_a_part_that_no_store_has(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "widow", "first", "nobody")
        ensemble(cache, "old", Need("first", 7))
        async with cache.running() as manager:
            for _ in range(3):
                with pytest.raises(ModelBroken, match=r"^Model 'widow' needs model 'nobody': No store has a model"):
                    await manager.ensure("widow")
                await asyncio.sleep(11)
            with pytest.raises(ModelBroken, match=r"^Model 'old' needs model 'first': Model 'first' has no version 7"):
                await manager.ensure("old")
            assert not cache.server.loads, "nothing is loaded for a model that cannot be had"
            cache.store.put("nobody")
            await asyncio.sleep(11)
            (await manager.ensure("widow")).release()

    play(tmp_path, scenario, missing_seconds=10)


def test_a_store_that_is_away_for_a_part_is_no_fault_of_the_ensemble(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            cache.store.fetch_error = StoreTransient("reset by peer")
            with pytest.raises(StoreAway, match="cannot be fetched now") as raised:
                await manager.ensure("pair")
            assert "reset by peer" not in raised.value.message
            cache.store.fetch_error = None
            await asyncio.sleep(6)
            (await manager.ensure("pair")).release()

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"a": ["a"]}, "'a' -> 'a'"),
        ({"a": ["b", "c"], "b": ["first"], "c": ["d"], "d": ["b", "a"]}, "'a' -> 'c' -> 'd' -> 'a'"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "'b' -> 'c' -> 'b'"),
    ],
)
def test_models_that_need_each_other_in_a_circle(tmp_path: Path, parts: dict[str, list[str]], words: str) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        for name, needed in parts.items():
            cache.store.put(name, parts=needed)
        async with cache.running() as manager:
            with pytest.raises(ModelBroken, match=f"^Model 'a' does not load: .* in a circle, {words}\\.$"):
                await manager.ensure("a")
            assert not cache.store.fetched
            (await manager.ensure("first")).release()

    play(tmp_path, scenario)
    with pytest.raises(ValidationError, match=f"in a circle, {words}"):
        CacheSettings(folder=tmp_path, needs={name: tuple(needed) for name, needed in parts.items()})


def test_more_parts_than_there_may_be(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for number in range(MAX_NEEDED + 2):
            cache.store.put(f"m{number}", parts=[f"m{number + 1}"])
        async with cache.running() as manager:
            with pytest.raises(ModelBroken, match="needs more than 256 other models"):
                await manager.ensure("m0")

    play(tmp_path, scenario)


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_names_that_nothing_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="The model name"):
        CacheSettings(folder=tmp_path, needs={"a": (name,)})


def test_a_newer_version_of_a_part_takes_over_under_the_ensemble(tmp_path: Path) -> None:
    """Calls that come by the ensemble alone have the store asked for its parts, too."""

    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "exact", Need("first", 1))
        async with cache.running() as manager:
            (await manager.ensure("exact")).release()
            (await manager.ensure("pair")).release()
            cache.store.put("first", 2)
            await asyncio.sleep(61)
            lease = manager.try_acquire("pair")
            assert lease is not None
            await asyncio.sleep(10)
            assert {"first:1", "first:2"} <= available(cache)
            used = {f"{each.model}:{each.version}" for each in manager.status().models if each.in_flight}
            assert used == {"pair:1", "first:1", "second:1"}, "a call keeps what it began with"
            lease.release()
            hit = manager.try_acquire("pair")
            assert hit is not None
            used = {f"{each.model}:{each.version}" for each in manager.status().models if each.in_flight}
            assert used == {"pair:1", "first:2", "second:1"}
            hit.release()
            for version in (1, 2):
                with pytest.raises(Refused):
                    await manager.commands.unload("first", version)
            await manager.commands.unload("exact")
            await manager.commands.unload("first", 1)
            assert available(cache) == {"pair:1", "first:2", "second:1"}

    play(tmp_path, scenario, refresh_seconds=60)


def test_a_newer_version_of_a_part_waits_for_room_rather_than_evict_who_needs_the_old_one(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        ensemble(cache, "outer", "pair")
        async with cache.running() as manager:
            (await manager.ensure("outer")).release()
            cache.store.put("first", 2)
            await asyncio.sleep(61)
            for _ in range(3):
                lease = manager.try_acquire("outer")
                assert lease is not None
                lease.release()
                await asyncio.sleep(20)
            assert available(cache) == {"outer:1", "pair:1", "first:1", "second:1"}
            (await manager.ensure("first", 2)).release()
            assert available(cache) == {"pair:1", "first:1", "first:2", "second:1"}, "a call for it has a right to room"

    play(tmp_path, scenario, refresh_seconds=60, capacity={"models": 4})


def test_an_old_version_of_a_part_may_go_once_no_call_uses_it(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            (await manager.ensure("pair")).release()
            cache.store.put("first", 2)
            await asyncio.sleep(11)
            (await manager.ensure("first", 2)).release()
            (await manager.ensure("pair")).release()
            (await manager.ensure("x")).release()
            assert available(cache) == {"pair:1", "first:2", "second:1", "x:1"}

    play(tmp_path, scenario, capacity={"models": 4})


def test_another_process_knows_who_needs_whom_before_it_evicts(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        cache.server.needs["y"] = {"x"}
        async with cache.running() as manager:
            for name in ("pair", "y"):
                (await manager.ensure(name)).release()
        again = cache.again()
        async with again.running() as manager:
            await asyncio.sleep(1)
            assert available(again) == {"pair:1", "first:1", "second:1", "x:1", "y:1"}
            for name in ("first", "second", "x"):
                with pytest.raises(Refused):
                    await manager.commands.unload(name)
            lease = manager.try_acquire("pair")
            assert lease is not None
            assert in_flight(again) == {"pair": 1, "first": 1, "second": 1}
            (await manager.ensure("z")).release()
            assert available(again) == {"pair:1", "first:1", "second:1", "x:1", "z:1"}
            assert again.mistakes == []

    play(tmp_path, scenario, needs={"y": ["x"]}, capacity={"models": 5})


def test_a_server_that_held_the_ensemble_without_a_part_gets_it_before_a_call_passes(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        cache.server.held_now = {Key("z", 1), Key("y", 1)}
        async with cache.running() as manager:
            await asyncio.sleep(1)
            assert available(cache) == {"z:1", "y:1"}
            assert manager.try_acquire("z") is None
            (await manager.ensure("z")).release()
            assert available(cache) == {"z:1", "x:1"}, "and z is no victim of its own part"
            assert cache.server.loads == [Key("x", 1)]
            assert manager.try_acquire("z") is not None

    play(tmp_path, scenario, needs={"z": ["x"]}, capacity={"models": 2})


def test_a_restarted_server_gets_the_parts_first_again(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            for name in ("x", "pair"):
                (await manager.ensure(name)).release()
            cache.server.die()
            await asyncio.sleep(5)
            cache.server.start()
            cache.server.loads.clear()
            await asyncio.sleep(20)
            assert available(cache) == {"pair:1", "first:1", "second:1", "x:1"}
            assert {key.model for key in cache.server.loads[:2]} == {"first", "second"}
            assert len(cache.server.loads) == 4

    play(tmp_path, scenario, capacity={"models": 4})


def test_the_server_dies_under_the_load_of_the_ensemble(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            call = asyncio.create_task(manager.ensure("pair"))
            while Key("pair", 1) not in cache.server.loading:
                await asyncio.sleep(0.1)
            cache.server.die()
            await asyncio.sleep(1)
            cache.server.start()
            (await call).release()
            assert available(cache) == {"pair:1", "first:1", "second:1"}
            assert cache.server.loads.count(Key("first", 1)) == 2

    play(tmp_path, scenario)


def test_an_unload_of_the_ensemble_ends_its_load_and_leaves_its_parts(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        cache.server.manual = True
        async with cache.running() as manager:
            call = asyncio.create_task(manager.ensure("pair"))
            await asyncio.sleep(3)
            assert set(cache.server.loading) == {("first", 1), ("second", 1)}
            with pytest.raises(Refused, match="'first' is needed by 'pair'"):
                await manager.commands.unload("first")
            await manager.commands.unload("pair")
            with pytest.raises(Busy, match="called off"):
                await call
            for load in list(cache.server.loading.values()):
                load.set_result(None)
            await asyncio.sleep(1)
            assert available(cache) == {"first:1", "second:1"}
            await manager.commands.unload("first")

    play(tmp_path, scenario)


def test_a_caller_that_goes_away_ends_no_load(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            for seconds in (0.015, 0.5, 1.5, 3.5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await manager.ensure("pair")
                await asyncio.sleep(30)
                assert available(cache) == {"pair:1", "first:1", "second:1"}
                assert manager.in_flight == 0
                assert in_flight(cache) == {}
                await manager.commands.unload("pair")
                await manager.commands.unload("first")
                await manager.commands.unload("second")

    play(tmp_path, scenario)


def test_a_pinned_ensemble_keeps_its_parts(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            await asyncio.sleep(10)
            assert available(cache) == {"pair:1", "first:1", "second:1"}
            for name in "xyz":
                with pytest.raises(Busy):
                    await manager.ensure(name)
            assert available(cache) == {"pair:1", "first:1", "second:1"}

    play(tmp_path, scenario, capacity={"models": 3}, pinned=["pair"], room_seconds=1)


def test_a_newer_version_of_an_ensemble_may_be_made_of_other_models(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        fill(cache)
        async with cache.running() as manager:
            (await manager.ensure("pair")).release()
            ensemble(cache, "pair", "first", "x", version=2)
            await asyncio.sleep(61)
            lease = manager.try_acquire("pair")
            assert lease is not None
            lease.release()
            await asyncio.sleep(20)
            assert {"pair:1", "pair:2", "first:1", "second:1", "x:1"} == available(cache)
            await manager.commands.unload("pair", 1)
            await manager.commands.unload("second")
            with pytest.raises(Refused):
                await manager.commands.unload("x")

    play(tmp_path, scenario, refresh_seconds=60)
