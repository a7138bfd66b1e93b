"""What edges are told of a node, while models come and go."""

import asyncio
from pathlib import Path

import pytest

from mesh.model_cache.errors import ModelBroken
from mesh.model_cache.feed import ResidencyReport
from mesh.model_cache.report import LoadForecast
from mesh.residency.state import Residency
from tests.mesh.model_cache.cache import Cache, play


def test_expected_load_time(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", size=100)
        cache.store.put("n", size=300)
        async with cache.running() as manager:
            assert manager.node_report.expected_load_seconds("m") is None
            await manager.commands.load("m")
            assert manager.node_report.expected_load_seconds("m") == 0.0
            await manager.commands.unload("m")
            seconds = manager.node_report.expected_load_seconds("m")
            assert seconds == pytest.approx(3.0, abs=0.1)
            assert manager.node_report.expected_load_seconds("unknown") == pytest.approx(3.0, abs=0.1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await manager.ensure("n")
            assert manager.node_report.expected_load_seconds("n") == pytest.approx(8.0, abs=0.2)

    play(tmp_path, scenario)


def test_the_forecast_for_edges(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        for name in ("m", "n", "away"):
            cache.store.put(name)
        async with cache.running() as manager:
            assert manager.node_report.forecast(manager.node_report.residency()) == LoadForecast({})
            await manager.commands.load("m")
            assert manager.node_report.forecast(manager.node_report.residency()).models == {}
            assert manager.node_report.forecast(manager.node_report.residency()).default == pytest.approx(3.0, abs=0.1)
            await manager.commands.load("n")
            await manager.commands.unload("m")
            # It is absent, so that only the forecast names it.
            forecast = manager.node_report.forecast(manager.node_report.residency())
            assert forecast.models == {"m": pytest.approx(3.0, abs=0.1)}
            waiting = asyncio.create_task(manager.ensure("away"))
            await asyncio.sleep(1)
            change = ResidencyReport({"away": Residency.LOADING, "n": Residency.AVAILABLE})
            assert manager.node_report.forecast(change).models == {"away": pytest.approx(2.0, abs=0.1)}  # what is left
            (await waiting).release()
            assert manager.node_report.forecast(change).models == {}

    play(tmp_path, scenario)


def test_residency_is_told_as_it_changes(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        cache.store.put("bad")
        cache.server.broken["bad"] = "no"
        told: list[tuple[bool, dict[str, Residency]]] = []

        async def listen() -> None:
            nonlocal told
            async for report in cache.manager.node_report.subscribe():
                told += [(report.full, dict(report.models))]

        async with cache.running() as manager:
            await manager.commands.load("m")
            listener = asyncio.create_task(listen())
            await asyncio.sleep(0)
            with pytest.raises(ModelBroken):
                await manager.ensure("bad")
            await asyncio.sleep(0.5)
            await manager.commands.unload("m")
            await asyncio.sleep(10)
            manager.node_report.leave()
            listener.cancel()
        assert told[0] == (True, {"m": Residency.AVAILABLE})
        assert not any(full for full, _ in told[1:])
        changes = [pair for _, report in told[1:] for pair in report.items()]
        assert [state for model, state in changes if model == "bad"] == [
            Residency.LOADING,
            Residency.FAILED,
            Residency.ABSENT,
        ]
        assert [state for model, state in changes if model == "m"] == [Residency.DRAINING, Residency.ABSENT]

    play(tmp_path, scenario)


def test_a_node_that_leaves_says_so_and_still_serves(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            await manager.commands.load("m")
            listener = manager.node_report.subscribe()
            assert not (await anext(listener)).leaving
            manager.node_report.leave()
            told = await anext(listener)
            assert (told.leaving, told.full, dict(told.models)) == (True, False, {})
            assert manager.node_report.residency() == ResidencyReport(
                {"m": Residency.AVAILABLE}, full=True, leaving=True
            )
            assert manager.try_acquire("m") is not None

    play(tmp_path, scenario)


def test_free_room(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m", size=1000)
        async with cache.running() as manager:
            await manager.commands.load("m")
            free = manager.node_report.free()
            assert (free.models, free.disk_bytes, free.memory_bytes) == (4, 4096 - 1000, 8192 - 2000)

    play(tmp_path, scenario, capacity={"models": 5, "disk_bytes": 4096, "memory_bytes": "8KiB"}, memory_factor=2)
