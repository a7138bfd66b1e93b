"""Loading and unloading: states, single flight."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesh.model_server import models as room
from mesh.model_server.errors import ServingError, StatusCode
from mesh.model_server.loaded_models import ModelVersion, VersionState
from mesh.model_server.models import Failures, Models, Wanted
from mesh.model_server.repository import Keep, Repository, VersionPolicy
from mesh.model_server.runtime import OnnxModel
from tests.mesh.model_server import graphs


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[Models]:
    made = Models(Repository(tmp_path))
    yield made
    await made.close()


class Gate:
    """Counts loads, and holds them up until it is opened."""

    def __init__(self) -> None:
        self.loads = 0
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def load(self, path: Path, threads: int = 1) -> OnnxModel:
        self.loads += 1
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._open.wait(30)
        return OnnxModel(path, threads)


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    made = Gate()
    monkeypatch.setattr(room, "OnnxModel", made.load)
    yield made
    made.open()


def available(models: Models, name: str, number: int | None = None) -> ModelVersion:
    version = models.loaded.find(name, number)
    assert version is not None
    return version


def run(version: ModelVersion, *rows: list[float]) -> Any:
    with version.lease() as model:
        return model.run({"x": np.array(rows, np.float32)}, ["y"])[0].tolist()


async def test_load_run_unload(models: Models, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    await models.load("m")
    version = available(models, "m")
    assert run(version, [1, 2]) == [[2, 4]]
    await models.unload("m")
    assert models.loaded.find("m") is None
    assert (version.state, version.model) == (VersionState.END, None)
    await models.load("m")
    assert run(available(models, "m"), [1, 2]) == [[2, 4]]


async def test_concurrent_loads_are_one(models: Models, gate: Gate, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    loads = [asyncio.create_task(models.load("m")) for _ in range(20)]
    await gate.entered.wait()
    loads[0].cancel()  # one caller that leaves does not take the load along
    assert models.loaded.by_name["m"].versions[1].state is VersionState.LOADING
    assert models.loaded.find("m") is None
    gate.open()
    results = await asyncio.gather(*loads, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 19
    assert gate.loads == 1
    await models.load("m")
    assert gate.loads == 1


async def test_a_new_version_takes_over_and_a_changed_file_is_loaded_again(models: Models, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1", 2)
    await models.load("m")
    first = available(models, "m")
    graphs.scaling(tmp_path / "m" / "2", 3)
    await models.load("m")
    assert available(models, "m").number == 2
    assert first.state is VersionState.END
    graphs.scaling(tmp_path / "m" / "2", 44.5)
    (tmp_path / "m" / "2" / "model.onnx").touch()
    before = available(models, "m")
    await models.load("m")
    assert before.state is VersionState.END
    assert run(available(models, "m"), [1, 2]) == [[44.5, 89]]


async def test_a_version_that_does_not_load_leaves_the_old_one_serving(models: Models, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    await models.load("m")
    (tmp_path / "m" / "2").mkdir()
    (tmp_path / "m" / "2" / "model.onnx").write_bytes(b"junk")
    with pytest.raises(Failures) as caught:
        await models.load("m")
    assert [number for number, _ in caught.value.causes] == [2]
    assert available(models, "m").number == 1
    failed = models.loaded.by_name["m"].versions[2]
    assert failed.state is VersionState.END
    assert failed.error is not None


async def test_a_changed_file_that_does_not_load_leaves_the_loaded_one_serving(models: Models, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    await models.load("m")
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(b"junk")
    with pytest.raises(Failures):
        await models.load("m")
    assert run(available(models, "m"), [1, 2]) == [[2, 4]]


@pytest.mark.parametrize("name", ["nope", "..", "a/b", "", "empty"])
async def test_what_is_not_there(models: Models, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError) as caught:
        await models.load(name)
    assert caught.value.code is StatusCode.NOT_FOUND
    await models.unload(name)


async def test_a_folder_without_a_model(models: Models, tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(Failures, match=r"Could not find model\.onnx"):
        await models.load("m")


async def test_apply_serves_exactly_the_list(models: Models, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        for number in ("1", "2", "3"):
            graphs.scaling(tmp_path / name / number)
    await models.apply([Wanted("a", tmp_path / "a"), Wanted("b", tmp_path / "b", VersionPolicy(Keep.ALL))])
    assert [version.number for version in models.loaded.by_name["a"].available()] == [3]
    assert [version.number for version in models.loaded.by_name["b"].available()] == [1, 2, 3]
    kept = available(models, "b", 2)
    specific = VersionPolicy(Keep.SPECIFIC, versions=frozenset({2}))
    await models.apply([Wanted("b", tmp_path / "b", specific), Wanted("c", tmp_path / "c", VersionPolicy(count=2))])
    assert models.loaded.find("a") is None
    assert models.loaded.by_name["b"].available() == [kept]
    assert [version.number for version in models.loaded.by_name["c"].available()] == [2, 3]
    await models.apply([])
    assert not any(entry.available() for entry in models.loaded.by_name.values())


async def test_apply_sees_to_every_model_even_if_one_fails(models: Models, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "good" / "1")
    with pytest.raises(ServingError, match="Could not find base path"):
        await models.apply([Wanted("bad", tmp_path / "bad"), Wanted("good", tmp_path / "good")])
    assert available(models, "good").number == 1


async def test_another_base_path_is_loaded_anew(models: Models, tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "one" / "1", 2)
    graphs.scaling(tmp_path / "other" / "1", 5)
    await models.apply([Wanted("m", tmp_path / "one")])
    await models.apply([Wanted("m", tmp_path / "other")])
    assert run(available(models, "m"), [1, 2]) == [[5, 10]]


async def test_close_gives_up_a_load(tmp_path: Path) -> None:
    graphs.scaling(tmp_path / "m" / "1")
    models = Models(Repository(tmp_path), load_delay_ms=3_600_000)
    load = asyncio.create_task(models.load("m"))
    while "m" not in models.loaded.by_name or not models.loaded.by_name["m"].versions:
        await asyncio.sleep(0)
    await models.close()
    with pytest.raises(asyncio.CancelledError):
        await load
