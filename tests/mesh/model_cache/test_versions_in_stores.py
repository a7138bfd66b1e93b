"""What a store's folders mean to the cache, by the model server's rule: numbered with zeros, broken, not yet whole."""

import asyncio
import json
from pathlib import Path

import pytest

from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import ModelBroken, ModelMissing
from mesh.model_cache.stores.store import StoreCorrupt, StoreTransient
from tests.mesh.model_cache.cache import Cache, play


def digest_of(cache: Cache, key: Key) -> str:
    """What lies on the node's disk, by the note beside it."""
    note = cache.settings.folder / "models" / key.model / f".{key.version}.json"
    digest: str = json.loads(note.read_text())["digest"]
    return digest


@pytest.mark.parametrize(
    ("folders", "with_zeros", "without"),
    [
        (["1", "2"], "2", "2"),
        (["00000123"], "00000123", None),
        (["1", "002"], "002", "1"),
        (["1", "001"], "1", "1"),
        (["001", "1"], "1", "1"),
        (["001", "01"], "01", None),
        (["0", "00"], "00", "0"),
        (["9", "010"], "010", "9"),
    ],
)
def test_the_newest_version_is_what_the_model_server_would_read(
    tmp_path: Path, folders: list[str], with_zeros: str, without: str | None
) -> None:
    for reads_zeros, expected in ((True, with_zeros), (False, without)):

        async def scenario(cache: Cache, reads_zeros: bool = reads_zeros, expected: str | None = expected) -> None:
            cache.server.reads_zeros = reads_zeros
            for folder in folders:
                cache.store.put("m", int(folder), folder="" if folder == str(int(folder)) else folder)
            async with cache.running() as manager:
                if expected is None:
                    with pytest.raises(ModelMissing, match=f"takes no folder with a name like '{folders[0]}'"):
                        await manager.ensure("m")
                    return
                lease = await manager.ensure("m")
                assert lease.key.version == int(expected)
                assert digest_of(cache, lease.key) == f"m-{expected}-100"

        play(tmp_path / str(reads_zeros), scenario)


def test_a_version_that_cannot_be_fetched_is_broken_for_good_and_costs_no_other(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        cache.store.put("other")
        async with cache.running() as manager:
            (await manager.ensure("other")).release()
            cache.store.put("m", 2, fault="In the store 'm/2' is a link or a special file.")
            for version in (None, 2):
                with pytest.raises(ModelBroken, match="Version 2 of model 'm' is damaged in its store") as refused:
                    await manager.ensure("m", version)
                assert "link" not in str(refused.value)
            assert manager.status().store == {"m": "In the store 'm/2' is a link or a special file."}
            assert cache.state("other") == "available", "no room is made for what cannot come"
            (await manager.ensure("m", 1)).release()
            assert cache.store.fetched.keys() == {Key("m", 1), Key("other", 1)}
            cache.store.put("m", 2)
            await asyncio.sleep(70)
            assert (await manager.ensure("m", 2)).key.version == 2
            assert manager.status().store == {}

    play(tmp_path, scenario, capacity={"models": 2})


def test_calls_stay_with_the_version_in_use_while_the_newest_cannot_be_fetched(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.put("m", 2, fault="In the store 'm/2' is a link or a special file.")
            for _ in range(3):
                await asyncio.sleep(70)
                lease = await manager.ensure("m")
                assert lease.key.version == 1
                lease.release()
            cache.store.put("m", 2)
            await asyncio.sleep(70)
            (await manager.ensure("m")).release()
            await asyncio.sleep(10)
            assert (await manager.ensure("m")).key.version == 2

    play(tmp_path, scenario)


def test_files_on_the_disk_are_served_though_their_version_was_spoilt_in_the_store(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        async with cache.running() as manager:
            await manager.commands.load("m")
            cache.store.put("m", 1, digest="other", fault="In the store 'm/1/a' is listed twice.")
            cache.server.die()
            cache.server.start()
            await asyncio.sleep(10)
            assert cache.state("m") == "available"
            assert sum(cache.store.fetched.values()) == 1

    play(tmp_path, scenario, capacity={"disk_bytes": 1000})


def test_a_list_that_makes_no_sense_is_a_broken_model_not_a_store_that_is_away(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.error = StoreCorrupt("s3://secret-bucket lists a name that cannot be a file.")
        async with cache.running() as manager:
            for _ in range(3):
                with pytest.raises(ModelBroken, match="Model 'm' is damaged in its store") as refused:
                    await manager.ensure("m")
                assert "secret-bucket" not in str(refused.value)
            assert cache.store.listed["m"] == 1
            assert "secret-bucket" in manager.status().store["m"]
            cache.store.error = None
            await asyncio.sleep(2)
            (await manager.ensure("m")).release()

    play(tmp_path, scenario)


@pytest.mark.parametrize("seen_by", ["the fetch", "the model server"])
def test_a_newest_version_that_is_still_uploaded_takes_over_once_it_is_whole(tmp_path: Path, seen_by: str) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", 1)
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            cache.store.put("m", 2, digest="half")
            if seen_by == "the fetch":
                cache.store.fetch_error = StoreTransient("It has changed since it was listed.")
            else:
                cache.server.broken["m"] = "a file is missing"
            await asyncio.sleep(70)
            (await manager.ensure("m")).release()
            await asyncio.sleep(10)
            assert cache.store.fetched[Key("m", 2)] == 1
            assert (await manager.ensure("m")).key.version == 1
            cache.store.fetch_error = None
            cache.server.broken.clear()
            cache.store.put("m", 2, digest="whole")
            await asyncio.sleep(70)
            (await manager.ensure("m")).release()
            await asyncio.sleep(10)
            lease = await manager.ensure("m")
            assert (lease.key.version, digest_of(cache, lease.key)) == (2, "whole")

    play(tmp_path, scenario)
