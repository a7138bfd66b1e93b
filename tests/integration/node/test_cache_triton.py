"""The model cache over a real Triton in explicit mode, with its Python backend."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from integration.peers.triton import DOUBLING, DOUBLING_CONFIG, Triton, missing, triton, write_model
from integration.stack.process import answers
from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import ModelBroken
from tests.integration.node.cache_node import CacheNode, cache_node, until

pytestmark = pytest.mark.triton

DOUBLED = (200, [2.0, 4.0])
TRIPLING = DOUBLING.replace("tensor * 2", "tensor * 3")
SLOW = DOUBLING.replace(
    "class TritonPythonModel:",
    "import time\n\nclass TritonPythonModel:\n    def initialize(self, args):\n        time.sleep(1.5)\n",
)
BROKEN = DOUBLING.replace(
    "class TritonPythonModel:",
    "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('weights of another model')\n",
)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    for name in ("a", "b", "c"):
        write_model(folder, name)
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[Triton]:
    if reason := missing():
        pytest.skip(reason)
    models = tmp_path / "cache" / "models"
    models.mkdir(parents=True)
    async with triton(models) as running:
        yield running


def cached(server: Triton, shelf: Path, **settings: Any) -> AbstractAsyncContextManager[CacheNode]:
    return cache_node(shelf.parent / "cache", shelf, server.grpc, f"http://{server.rest}", **settings)


async def test_two_hundred_first_calls_are_one_fetch_and_one_load(server: Triton, shelf: Path) -> None:
    async with cached(server, shelf) as node:
        leases = await asyncio.gather(*(node.manager.ensure("a") for _ in range(200)))
        assert await node.call("a") == DOUBLED
        assert node.store.fetched == {Key("a", 1): 1}
        assert node.loader.loads == {Key("a", 1): 1}
        for lease in leases:
            lease.release()


async def test_eviction_unloads_and_an_agent_that_restarts_adopts_the_rest(server: Triton, shelf: Path) -> None:
    async with cached(server, shelf, capacity={"models": 2}) as node:
        for name in ("a", "b", "a", "c"):
            (await node.manager.ensure(name)).release()
        assert await node.call("a") == await node.call("c") == DOUBLED
        assert (await node.call("b"))[0] != 200
        assert sorted(path.name for path in (shelf.parent / "cache" / "models").iterdir()) == ["a", "c"]
    async with cached(server, shelf) as again:
        await until(lambda: again.states() == {"a:1": "available", "c:1": "available"})
        assert again.manager.try_acquire("a") is not None
        assert not again.store.fetched


async def test_two_versions_side_by_side_under_a_policy_that_serves_one(server: Triton, shelf: Path) -> None:
    (shelf / "a" / "2").mkdir()
    (shelf / "a" / "2" / "model.py").write_text(TRIPLING)
    async with cached(server, shelf) as node:
        (await node.manager.ensure("a")).release()
        assert await node.call("a") == (200, [3.0, 6.0])
        (await node.manager.ensure("a", 1)).release()
        assert await node.call("a", 1) == DOUBLED
        assert await node.call("a", 2) == (200, [3.0, 6.0])
        await node.manager.commands.unload("a", 2)
        assert await node.call("a") == DOUBLED
        await node.manager.commands.unload("a")
        assert (await node.call("a"))[0] != 200


async def test_a_version_whose_files_have_gone_does_not_keep_another_one_loaded(server: Triton, shelf: Path) -> None:
    (shelf / "a" / "2").mkdir()
    (shelf / "a" / "2" / "model.py").write_text(TRIPLING)
    async with cached(server, shelf) as node:
        for version in (1, 2):
            (await node.manager.ensure("a", version)).release()
        shutil.rmtree(shelf.parent / "cache" / "models" / "a" / "2")
        await node.manager.commands.unload("a", 1)
        assert (await node.call("a", 1))[0] != 200


async def test_a_model_that_does_not_load_says_why(server: Triton, shelf: Path) -> None:
    write_model(shelf, "bad", DOUBLING_CONFIG, BROKEN)
    write_model(shelf, "odd", "no config {", DOUBLING)
    async with cached(server, shelf) as node:
        with pytest.raises(ModelBroken, match="weights of another model"):
            await node.manager.ensure("bad")
        with pytest.raises(ModelBroken, match=r"Model 'odd' does not load: config\.pbtxt cannot be read"):
            await node.manager.ensure("odd")
        (await node.manager.ensure("a")).release()
        assert await node.call("a") == DOUBLED
        assert node.states() == {"a:1": "available", "bad:1": "failed", "odd:1": "failed"}


async def test_a_triton_killed_under_a_load_gets_its_models_when_it_is_back(server: Triton, shelf: Path) -> None:
    write_model(shelf, "slow", DOUBLING_CONFIG, SLOW)
    async with cached(server, shelf) as node:
        (await node.manager.ensure("a")).release()
        call = asyncio.create_task(node.manager.ensure("slow"))
        await until(lambda: node.states().get("slow:1") == "loading")
        await asyncio.sleep(0.5)
        assert node.states()["slow:1"] == "loading"
        server.process.kill()
        await until(lambda: node.manager.status().server != "")
        await server.process.start(answers(f"http://{server.rest}/v2/health/ready"))
        (await call).release()
        assert await node.call("slow") == DOUBLED
        await until(lambda: node.states()["a:1"] == "available")
        assert await node.call("a") == DOUBLED
        assert set(node.store.fetched.values()) == {1}


async def test_a_hit_is_answered_while_a_slow_model_loads(server: Triton, shelf: Path) -> None:
    write_model(shelf, "slow", DOUBLING_CONFIG, SLOW)
    async with cached(server, shelf) as node:
        (await node.manager.ensure("a")).release()
        slow = asyncio.create_task(node.manager.ensure("slow"))
        await until(lambda: node.states().get("slow:1") == "loading")
        lease = node.manager.try_acquire("a")
        assert lease is not None
        assert await node.call("a") == DOUBLED
        (await node.manager.ensure("b")).release()
        assert not slow.done(), "another model loads beside it"
        (await slow).release()
