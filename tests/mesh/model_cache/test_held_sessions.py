"""Sessions that hold a model of a node between their calls, in virtual time."""

import asyncio
from pathlib import Path

import pytest

from mesh.model_cache.errors import Busy
from mesh.model_cache.held_sessions import HeldSessions
from mesh.session_claim import SessionClaim
from tests.mesh.model_cache.cache import Cache, play

IDLE = 60
POLL = 2.0


def claim(number: int, last: bool = False) -> SessionClaim:
    return SessionClaim(f"{number:032x}", IDLE, last)


async def call(cache: Cache, number: int, model: str = "m", last: bool = False, seconds: float = 0.0) -> None:
    """One call of a session, from its lease to its end."""
    said = claim(number, last)
    lease = cache.manager.acquire_again(said, model) or await cache.manager.ensure(model)
    joined = cache.manager.sessions.join(said, lease)
    await asyncio.sleep(seconds)
    joined.release()
    joined.release()


def test_a_session_holds_its_model_between_calls_until_its_last(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            await call(cache, 1)
            await call(cache, 1)
            await call(cache, 2)
            assert (cache.manager.in_flight, len(cache.manager.sessions)) == (2, 2)
            await call(cache, 1, last=True)
            await call(cache, 2, last=True)
            assert (cache.manager.in_flight, len(cache.manager.sessions)) == (0, 0)

    play(tmp_path, scenario, poll_seconds=POLL)


def test_one_that_is_idle_lets_go(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            await call(cache, 1)
            await asyncio.sleep(IDLE - 10)
            await call(cache, 1, seconds=3 * IDLE)
            assert cache.manager.in_flight == 1, "its time begins when the call ends"
            await asyncio.sleep(IDLE - POLL)
            assert cache.manager.in_flight == 1
            await asyncio.sleep(2 * POLL)
            assert cache.manager.in_flight == 0

    play(tmp_path, scenario, poll_seconds=POLL)


def test_a_model_with_a_session_is_not_evicted(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.put("other")
        async with cache.running():
            await call(cache, 1)
            with pytest.raises(Busy):
                await cache.manager.ensure("other")
            assert cache.state("m") == "available"
            await call(cache, 1, last=True)
            (await cache.manager.ensure("other")).release()
            assert cache.state("m") == "absent"

    play(tmp_path, scenario, capacity={"models": 1}, room_seconds=1.0)


def test_an_unload_waits_for_sessions_and_new_calls_for_the_unload(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            await call(cache, 1)
            unload = asyncio.create_task(cache.manager.commands.unload("m"))
            await asyncio.sleep(5)
            assert cache.state("m") == "draining"
            for _ in range(5):
                await call(cache, 1, seconds=1)
            assert cache.manager.try_acquire("m") is None
            assert cache.manager.acquire_again(claim(2), "m") is None
            assert not unload.done()
            await call(cache, 1, last=True)
            await unload
            assert cache.state("m") == "absent"
            assert cache.manager.acquire_again(claim(1), "m") is None

    play(tmp_path, scenario)


def test_an_unload_goes_on_when_its_sessions_are_idle(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running():
            await call(cache, 1)
            began = asyncio.get_running_loop().time()
            await cache.manager.commands.unload("m")
            assert IDLE <= asyncio.get_running_loop().time() - began <= IDLE + 2 * POLL

    play(tmp_path, scenario, poll_seconds=POLL)


def test_the_session_of_another_model_is_another_one(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.put("other")
        async with cache.running():
            await call(cache, 1)
            assert cache.manager.acquire_again(claim(1), "other") is None
            await call(cache, 1, "other")
            assert (cache.manager.in_flight, len(cache.manager.sessions)) == (1, 1), "it has moved"

    play(tmp_path, scenario)


def test_a_session_outlives_the_loss_of_its_model_and_what_the_model_knew_of_it_does_not(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            lease = await manager.ensure("m")
            joined = manager.sessions.join(claim(1), lease)
            cache.server.die()
            await asyncio.sleep(1)
            assert manager.acquire_again(claim(1), "m") is None, "nobody knows what it holds"
            cache.server.start()
            await asyncio.sleep(0.1)
            assert cache.state("m") != "available"
            manager.sessions.expire()
            joined.release()
            await call(cache, 2)
            assert manager.in_flight == len(manager.sessions) == 2
            assert cache.state("m") == "available", "it was loaded again, and the session goes on as one without a past"

    play(tmp_path, scenario)


def test_there_are_never_more_than_the_most(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            loop = asyncio.get_running_loop()
            (await manager.ensure("m")).release()
            sessions = HeldSessions(manager._cache.lease, loop.time, most=2)
            for number in (1, 2, 1, 3):
                lease = manager.try_acquire("m")
                assert lease is not None
                sessions.join(claim(number), lease).release()
                assert manager.in_flight == len(sessions) <= 2
            assert sessions.again(claim(2), "m") is None, "it was without a call for longest"
            for number in (1, 3):
                lease = sessions.again(claim(number), "m")
                assert lease is not None
                lease.release()

    play(tmp_path, scenario)
