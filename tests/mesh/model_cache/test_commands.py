"""What a node is told to do: operators' commands, against a store and a server in memory."""

import asyncio
from pathlib import Path

import pytest

from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import Busy, ModelMissing, Refused
from tests.mesh.model_cache.cache import Cache, play


def test_operators_unload_waits_for_calls_in_flight(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            lease = await manager.ensure("m")
            unload = asyncio.create_task(manager.commands.unload("m"))
            await asyncio.sleep(30)
            assert cache.state("m") == "draining"
            assert manager.try_acquire("m") is None
            assert not cache.server.unloads
            later = asyncio.create_task(manager.ensure("m"))
            await asyncio.sleep(1)
            lease.release()
            await unload
            assert cache.server.unloads == [Key("m", 1)]
            (await later).release()
            assert cache.store.fetched[Key("m", 1)] == 2, "its files had gone with it"

    play(tmp_path, scenario)


def test_operators_unload_ends_a_fetch(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.manual = True
        async with cache.running() as manager:
            caller = asyncio.create_task(manager.ensure("m"))
            await asyncio.sleep(1)
            await manager.commands.unload("m")
            with pytest.raises(Busy, match="called off"):
                await caller
            assert not cache.store.fetching
            assert cache.state("m") == "absent"

    play(tmp_path, scenario)


def test_pins(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for name in ("always", "once", "x", "y"):
            cache.store.put(name)
        async with cache.running() as manager:
            await asyncio.sleep(10)
            assert cache.state("always") == "available", "pinned models are loaded at the start"
            await manager.commands.pin("once")
            with pytest.raises(Refused, match="pinned"):
                await manager.commands.unload("once")
            with pytest.raises(Busy, match="no room for model 'x'"):
                await manager.ensure("x")
            with pytest.raises(ModelMissing):
                await manager.commands.pin("nowhere")
            manager.commands.unpin("once")
            (await manager.ensure("x")).release()
            assert {cache.state(name) for name in ("always", "x")} == {"available"}
            assert cache.state("once") == "absent"

    play(tmp_path, scenario, pinned=["always"], capacity={"models": 2})
