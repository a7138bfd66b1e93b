"""A model server whose connection has ended: nothing is taken for loaded before it was looked at again."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import Busy
from tests.mesh.model_cache.cache import Cache, play

POLL_SECONDS = 2.0


async def resident(cache: Cache, *models: str) -> None:
    for model in models:
        cache.store.put(model)
        (await cache.manager.ensure(model)).release()
    await a_moment()


async def a_moment() -> None:
    """For what is ready to run; no time passes that a look would take."""
    await asyncio.sleep(0.001)


def test_a_call_is_sent_elsewhere_at_once_while_the_server_is_away(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            await resident(cache, "m")
            cache.store.put("cold")
            cache.server.die()
            await a_moment()
            assert cache.manager.try_acquire("m") is None
            begun = asyncio.get_running_loop().time()
            for model in ("m", "cold"):
                with pytest.raises(Busy, match="model server of this node is away"):
                    await cache.manager.ensure(model)
            assert asyncio.get_running_loop().time() - begun < 0.1
            assert cache.state("m") == "available", "it may only have been the connection"

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


def test_a_server_that_comes_back_empty_gets_no_call_before_it_is_filled_again(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            await resident(cache, "m")
            cache.server.die()
            cache.server.start()
            await a_moment()
            assert cache.manager.try_acquire("m") is None
            with await cache.manager.ensure("m"):
                assert cache.manager.cold_calls == 2
                assert cache.server.held_now == {Key("m", 1)}
            assert cache.manager.try_acquire("m") is not None

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


def test_a_server_that_was_away_is_found_soon(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            await resident(cache, "m")
            cache.server.die()
            await asyncio.sleep(100)
            cache.server.start()
            await asyncio.sleep(POLL_SECONDS / 4)
            (await cache.manager.ensure("m")).release()

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


def test_a_connection_that_ends_costs_one_look_where_the_server_kept_everything(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            await resident(cache, "m")
            cache.server.disconnect()
            await a_moment()
            assert cache.manager.try_acquire("m") is None
            with await cache.manager.ensure("m"):
                assert cache.manager.cold_calls == 1
            assert len(cache.server.loads) == 1

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


def test_a_look_that_began_before_the_connection_ended_proves_nothing(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        async with cache.running():
            await resident(cache, "m")
            cache.manager.suspect_server()
            await asyncio.sleep(POLL_SECONDS / 10 + 0.005)  # in the middle of the look that this brings about
            cache.server.disconnect()
            await asyncio.sleep(0.007)  # that look has ended, the next one has not
            assert cache.manager.try_acquire("m") is None
            (await cache.manager.ensure("m")).release()

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)


def test_a_look_that_breaks_verifies_nothing(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        held = cache.server.held

        async def broken(known: Iterable[Key]) -> frozenset[Key]:
            cache.server.held = held  # type: ignore[method-assign]
            raise RuntimeError("a reply that makes no sense")

        async with cache.running():
            await resident(cache, "m")
            cache.server.held = broken  # type: ignore[method-assign]
            cache.server.disconnect()
            await a_moment()
            with pytest.raises(Busy, match="model server of this node is away"):
                await cache.manager.ensure("m")
            await asyncio.sleep(POLL_SECONDS / 4)
            (await cache.manager.ensure("m")).release()
            assert len(cache.server.loads) == 1

    play(tmp_path, scenario, poll_seconds=POLL_SECONDS)
