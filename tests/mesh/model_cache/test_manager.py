"""One model, and all who want it."""

import asyncio
from pathlib import Path

import pytest

from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import BadName, Busy, ModelBroken, ModelMissing, NoRoom, StoreAway
from mesh.model_cache.stores.store import StoreCorrupt, StoreCredentials, StoreFull, StoreTransient
from tests.mesh.model_cache.cache import Cache, play


def test_first_calls_share_one_fetch_and_one_load(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            leases = await asyncio.gather(*(manager.ensure("m") for _ in range(200)))
            assert cache.store.fetched == {Key("m", 1): 1}
            assert cache.server.loads == [Key("m", 1)]
            assert cache.store.listed == {"m": 1}
            assert cache.manager.cold_calls == len(leases)
            assert manager.status().models[0].in_flight == 200
            for lease in leases:
                lease.release()
                lease.release()
            assert manager.status().models[0].in_flight == 0

    play(tmp_path, scenario)


def test_a_hit_asks_nobody(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            assert manager.try_acquire("m") is None
            (await manager.ensure("m")).release()
            before = (dict(cache.store.listed), cache.server.calls)
            for arguments in (("m",), ("m", 1), ("m", "1"), ("m", None, "latest")):
                lease = manager.try_acquire(*arguments)
                assert lease is not None
                with lease:
                    assert lease.key == Key("m", 1)
            assert manager.cold_calls == 1
            assert (dict(cache.store.listed), cache.server.calls) == before

    play(tmp_path, scenario)


def test_a_hit_passes_while_another_model_is_on_its_way(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("slow")
        cache.store.put("quick")
        async with cache.running() as manager:
            (await manager.ensure("quick")).release()
            cache.store.manual = True
            slow = asyncio.create_task(manager.ensure("slow"))
            await asyncio.sleep(5)
            assert cache.state("slow") == "fetching"
            lease = manager.try_acquire("quick")
            assert lease is not None
            cache.store.fetching[Key("slow", 1)].set_result(None)
            assert (await slow).key == Key("slow", 1)

    play(tmp_path, scenario)


def test_the_caller_that_goes_away_does_not_end_the_load(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await manager.ensure("m")
            await asyncio.sleep(10)
            lease = manager.try_acquire("m")
            assert lease is not None
            assert manager.status().models[0].in_flight == 1
            assert cache.server.loads == [Key("m", 1)]

    play(tmp_path, scenario)


def test_a_caller_cancelled_in_the_step_of_its_answer_holds_no_lease(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.server.manual = True
        async with cache.running() as manager:
            callers = [asyncio.create_task(manager.ensure("m")) for _ in range(3)]
            await asyncio.sleep(5)
            cache.server.loading[Key("m", 1)].set_result(None)
            cancelled = 0
            while not callers[2].done():
                if cache.state("m") == "available" and not cancelled:
                    cancelled = callers[0].cancel() + callers[1].cancel()
                await asyncio.sleep(0)
            assert cancelled == 2
            await asyncio.gather(*callers, return_exceptions=True)
            assert manager.status().models[0].in_flight == 1

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "../../etc/passwd", "a\nb", "a\x00b", "x" * 256, "\ud800"]
)
def test_bad_names_reach_neither_store_nor_server(tmp_path: Path, name: str) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running() as manager:
            with pytest.raises(BadName, match=r"^The model name .*\.$"):
                await manager.ensure(name)
            assert not cache.store.listed

    play(tmp_path, scenario)


@pytest.mark.parametrize("version", ["", "-1", "1.0", "١", "9" * 19, "9" * 5000, -1, 1 << 63])
def test_bad_versions(tmp_path: Path, version: int | str) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            assert manager.try_acquire("m", version) is None
            with pytest.raises(BadName, match="not a decimal number of 64 bits"):
                await manager.ensure("m", version)
            assert not cache.store.listed

    play(tmp_path, scenario)


def test_a_missing_model_is_remembered_for_a_while(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running() as manager:
            for _ in range(5):
                with pytest.raises(ModelMissing, match="No store has a model 'm'"):
                    await manager.ensure("m")
            assert cache.store.listed["m"] == 1
            cache.store.put("m")
            await asyncio.sleep(11)
            (await manager.ensure("m")).release()

    play(tmp_path, scenario)


def test_a_missing_version_and_a_missing_label(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 3)
        async with cache.running() as manager:
            with pytest.raises(ModelMissing, match="has no version 4"):
                await manager.ensure("m", 4)
            with pytest.raises(ModelMissing, match="no version with the label 'canary'"):
                await manager.ensure("m", None, "canary")
            cache.store.put("m", 4)
            with pytest.raises(ModelMissing):
                await manager.ensure("m", 4)
            await asyncio.sleep(11)
            assert (await manager.ensure("m", 4)).key.version == 4
            assert cache.server.loads == [Key("m", 4)]

    play(tmp_path, scenario)


def test_versions_labels_and_latest(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for version in (1, 2, 10):
            cache.store.put("m", version)
        async with cache.running() as manager:
            assert (await manager.ensure("m", "1")).key.version == 1
            assert manager.try_acquire("m") is None, "an old version is not what a call without one means"
            assert (await manager.ensure("m")).key.version == 10
            assert (await manager.ensure("m", None, "stable")).key.version == 2
            assert (await manager.ensure("m", None, "latest")).key.version == 10
            lease = manager.try_acquire("m", None, "stable")
            assert lease is not None
            assert lease.key.version == 2

    play(tmp_path, scenario, labels={"m": {"stable": 2}})


def test_a_newer_version_takes_over_once_it_is_available(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.put("m", 2)
            seen = []
            for _ in range(70):
                lease = manager.try_acquire("m")
                assert lease is not None, "calls never wait for a newer version"
                seen.append(lease.key.version)
                lease.release()
                await asyncio.sleep(1)
            assert seen == sorted(seen)
            assert set(seen) == {1, 2}

    play(tmp_path, scenario)


def test_a_newer_version_that_is_broken_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.put("m", 2)
            cache.server.broken["m"] = "bad graph"
            for _ in range(100):
                lease = manager.try_acquire("m")
                assert lease is not None
                assert lease.key.version == 1
                lease.release()
                await asyncio.sleep(1)
            assert Key("m", 2) in cache.server.loads

    play(tmp_path, scenario)


def test_a_newest_version_that_is_taken_back_gives_way_to_the_one_before(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        cache.store.put("m", 2)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.remove("m", 2)
            seen = []
            for _ in range(70):
                lease = manager.try_acquire("m")
                assert lease is not None, "calls never wait for an older version"
                seen.append(lease.key.version)
                await asyncio.sleep(1)
                assert cache.state("m", lease.key.version) in ("available", "draining")
                lease.release()
            assert seen == sorted(seen, reverse=True)
            assert set(seen) == {1, 2}
            await asyncio.sleep(1)
            assert cache.state("m", 2) == "absent", "a model server serves the newest that it holds"
            with pytest.raises(ModelMissing):
                await manager.ensure("m", 2)

    play(tmp_path, scenario)


def test_a_version_that_is_away_while_it_is_replaced_stays_in_use(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        cache.store.put("m", 2)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.remove("m", 2)
            await asyncio.sleep(61)
            (await manager.ensure("m")).release()
            while cache.state("m", 1) != "loading":
                await asyncio.sleep(0.01)
            cache.store.put("m", 2)
            await asyncio.sleep(30)
            assert (await manager.ensure("m")).key.version == 2
            assert cache.state("m", 2) == "available"

    play(tmp_path, scenario)


def test_a_model_without_any_version_left_stays_in_use(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.remove("m", 1)
            for _ in range(70):
                lease = manager.try_acquire("m")
                assert lease is not None
                lease.release()
                await asyncio.sleep(1)

    play(tmp_path, scenario)


def test_a_broken_model_is_quarantined_with_its_cause(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.server.broken["m"] = "Invalid argument: no such op: Foo"
        async with cache.running() as manager:
            for _ in range(3):
                with pytest.raises(ModelBroken, match="does not load: Invalid argument: no such op: Foo"):
                    await manager.ensure("m")
            assert len(cache.server.loads) == 1
            (status,) = manager.status().models
            assert (status.state, status.attempts) == ("failed", 1)
            assert "no such op" in status.cause
            assert status.retry_seconds > 0
            await asyncio.sleep(6)
            with pytest.raises(ModelBroken):
                await manager.ensure("m")
            assert len(cache.server.loads) == 2
            await asyncio.sleep(6)
            with pytest.raises(ModelBroken):
                await manager.ensure("m")
            assert len(cache.server.loads) == 2, "the back-off doubles"
            del cache.server.broken["m"]
            assert await manager.commands.load("m") == Key("m", 1), "an operator does not wait for the back-off"

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreCredentials("s3://secret-bucket: InvalidAccessKeyId"), StoreAway),
        (StoreTransient("timeout reading s3://secret-bucket"), StoreAway),
        (StoreCorrupt("s3://secret-bucket/m: checksum"), ModelBroken),
        (StoreFull("no space left below s3://secret-bucket"), NoRoom),
    ],
)
def test_what_a_store_says_stays_inside(tmp_path: Path, error: Exception, expected: type[Exception]) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.fetch_error = error
        async with cache.running() as manager:
            with pytest.raises(expected) as raised:
                await manager.ensure("m")
            assert "secret-bucket" not in str(raised.value)
            (status,) = manager.status().models
            assert "secret-bucket" in status.cause

    play(tmp_path, scenario)


def test_a_store_that_refuses_us(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.error = StoreCredentials("s3://secret-bucket: expired token")
        async with cache.running() as manager:
            for _ in range(3):
                with pytest.raises(StoreAway) as raised:
                    await manager.ensure("m")
                assert "secret-bucket" not in str(raised.value)
            assert cache.store.listed["m"] == 1
            assert "expired token" in manager.status().store["m"]
            cache.store.error = None
            await asyncio.sleep(1.5)
            (await manager.ensure("m")).release()
            assert not manager.status().store

    play(tmp_path, scenario)


def test_a_store_that_hangs_holds_up_one_model_for_so_long(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.manual = True
        async with cache.running() as manager:
            before = asyncio.get_running_loop().time()
            with pytest.raises(StoreAway):
                await manager.ensure("m")
            assert asyncio.get_running_loop().time() - before == pytest.approx(30, abs=1)
            assert "made no progress for 30 s" in manager.status().models[0].cause

    play(tmp_path, scenario)


def test_fetches_at_once_are_bounded(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for number in range(10):
            cache.store.put(f"m{number}")
        async with cache.running() as manager:
            await asyncio.gather(*(manager.ensure(f"m{number}") for number in range(10)))
            assert cache.store.most_at_once == 3

    play(tmp_path, scenario, fetch_concurrency=3)


def test_too_many_calls_for_one_model_and_too_many_models(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for name in "abc":
            cache.store.put(name)
        async with cache.running() as manager:
            answers = await asyncio.gather(*(manager.ensure("a") for _ in range(6)), return_exceptions=True)
            assert sum(isinstance(answer, Busy) for answer in answers) == 2
            answers = await asyncio.gather(manager.ensure("b"), manager.ensure("c"), return_exceptions=True)
            assert sum(isinstance(answer, Busy) for answer in answers) == 1

    play(tmp_path, scenario, max_waiting=4, max_loads=1)


def test_clients_cannot_have_the_store_asked_about_any_number_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.model_cache.store_index.MAX_QUESTIONS", 2)

    async def scenario(cache: Cache) -> None:
        async with cache.running() as manager:
            names = ("a", "b", "a", "c")
            answers = await asyncio.gather(*(manager.ensure(name) for name in names), return_exceptions=True)
            assert [type(answer) for answer in answers] == [ModelMissing, ModelMissing, ModelMissing, Busy]
            assert dict(cache.store.listed) == {"a": 1, "b": 1}
            with pytest.raises(ModelMissing):
                await manager.ensure("c")

    play(tmp_path, scenario)


def test_the_end_answers_those_who_wait(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for name in ("fetching", "asking", "starting"):
            cache.store.put(name)
        cache.store.manual = True
        async with cache.running() as manager:
            callers = [asyncio.create_task(manager.ensure("fetching"))]
            await asyncio.sleep(1)
            callers.append(asyncio.create_task(manager.ensure("asking")))
            callers.append(asyncio.create_task(manager.ensure("starting", 1)))
            await asyncio.sleep(0)
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Busy, Busy, Busy]
        with pytest.raises(Busy):
            await cache.manager.ensure("late")

    play(tmp_path, scenario)


def test_an_error_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        with pytest.raises(KeyError):
            async with cache.running():
                raise KeyError("mine")

    play(tmp_path, scenario)
