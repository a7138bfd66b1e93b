"""Running models: leases, statistics, delays."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesh.model_server.errors import ServingError, StatusCode
from mesh.model_server.loaded_models import ModelVersion, VersionState
from mesh.model_server.models import Models
from mesh.model_server.repository import Repository
from mesh.model_server.runner import Runner
from tests.mesh.model_server import graphs


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[Models]:
    made = Models(Repository(tmp_path))
    yield made
    await made.close()


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    made = Runner()
    yield made
    await made.close()


def available(models: Models, name: str) -> ModelVersion:
    version = models.loaded.find(name)
    assert version is not None
    return version


async def test_unload_waits_for_calls_in_flight(models: Models, runner: Runner, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    await models.load("m")
    version = available(models, "m")
    with version.lease():
        await models.unload("m")
        assert models.loaded.find("m") is None
        assert version.state is VersionState.UNLOADING
        assert (await runner.infer(version, {"x": np.ones((1, 2), np.float32)}, ["y"]))["y"].tolist() == [[2, 2]]
        assert version.state is VersionState.UNLOADING
    assert (version.state, version.model) == (VersionState.END, None)


async def test_a_cancelled_call_holds_the_model_until_its_thread_ends(
    models: Models, runner: Runner, tmp_path: Path
) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    await models.load("m")
    version = available(models, "m")
    entered, leave = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow:
        def run(self, inputs: Any, outputs: Any) -> Any:
            loop.call_soon_threadsafe(entered.set)
            assert leave.wait(30)
            return [np.zeros(1)]

    version.model = Slow()  # type: ignore[assignment]

    async def call() -> None:
        with version.lease():
            await runner.infer(version, {}, ["y"])

    task = asyncio.create_task(call())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert version.in_flight == 1
    await models.unload("m")
    assert version.state is VersionState.UNLOADING
    gone = asyncio.Event()
    version.when_idle(gone.set)
    leave.set()
    await gone.wait()
    assert version.state is VersionState.END


async def test_statistics(models: Models, runner: Runner, tmp_path: Path) -> None:
    graphs.failing(tmp_path / "m" / "1")
    await models.load("m")
    version = available(models, "m")
    with version.lease():
        await runner.infer(version, {"x": np.ones(4, np.float32)}, ["y"])
        with pytest.raises(ServingError, match="onnx runtime error") as caught:
            await runner.infer(version, {"x": np.ones(3, np.float32)}, ["y"])
    assert caught.value.code is StatusCode.INTERNAL
    counts = version.statistics
    assert (counts.success.count, counts.fail.count, counts.compute.count) == (1, 1, 1)
    assert counts.success.ns == counts.queue.ns + counts.compute.ns > 0


async def test_delays_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    (tmp_path / "m" / "tbms.json").write_text('{"delay_ms": 30, "load_delay_ms": 400}')
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    models, runner = Models(Repository(tmp_path), load_delay_ms=100), Runner(delay_ms=5)
    await models.load("m")
    version = available(models, "m")
    with version.lease():
        await runner.infer(version, {"x": np.ones((1, 2), np.float32)}, ["y"])
    await models.close()
    await runner.close()
    assert slept == [pytest.approx(0.5), pytest.approx(0.035)]
