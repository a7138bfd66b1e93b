"""The model cache over the embedded server, by both of the APIs that load models there."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from integration.stack.embedded import EmbeddedNode, NodeSpec
from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import ModelBroken, NoRoom
from tests.integration.node.cache_node import cache_node, until, write_onnx

DOUBLED = (200, [2.0, 4.0])


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    for name in ("a", "b", "c"):
        write_onnx(folder, name)
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedNode]:
    models = tmp_path / "cache" / "models"
    models.mkdir(parents=True)
    node = EmbeddedNode(NodeSpec("embedded", models=frozenset()), models, tmp_path)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@pytest.fixture(params=["v2", "tf-serving"])
def loader(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"api": request.param}


def cached(server: EmbeddedNode, shelf: Path, **settings: Any) -> Any:
    return cache_node(server.repository.parent, shelf, server.grpc, server.rest, **settings)


async def test_two_hundred_first_calls_are_one_fetch_and_one_load(
    server: EmbeddedNode, shelf: Path, loader: dict[str, str]
) -> None:
    async with cached(server, shelf, loader=loader) as node:
        leases = await asyncio.gather(*(node.manager.ensure("a") for _ in range(200)))
        assert await node.call("a") == DOUBLED
        assert node.store.fetched == {Key("a", 1): 1}
        assert node.loader.loads == {Key("a", 1): 1}
        for lease in leases:
            lease.release()


async def test_the_least_recently_used_model_goes_and_its_disk_is_free(
    server: EmbeddedNode, shelf: Path, loader: dict[str, str]
) -> None:
    async with cached(server, shelf, loader=loader, capacity={"models": 2}) as node:
        for name in ("a", "b", "a", "c"):
            (await node.manager.ensure(name)).release()
        assert node.states() == {"a:1": "available", "c:1": "available"}
        assert await node.call("a") == DOUBLED
        assert await node.call("c") == DOUBLED
        assert (await node.call("b"))[0] != 200
        assert sorted(path.name for path in server.repository.iterdir()) == ["a", "c"]


async def test_a_model_that_does_not_load_says_why(server: EmbeddedNode, shelf: Path, loader: dict[str, str]) -> None:
    (shelf / "bad" / "1").mkdir(parents=True)
    (shelf / "bad" / "1" / "model.onnx").write_bytes(b"no graph at all")
    async with cached(server, shelf, loader=loader) as node:
        with pytest.raises(ModelBroken, match=r"(?i)protobuf|parse"):
            await node.manager.ensure("bad")
        assert node.states() == {"bad:1": "failed"}
        (await node.manager.ensure("a")).release()
        assert await node.call("a") == DOUBLED


async def test_a_model_larger_than_the_node(server: EmbeddedNode, shelf: Path) -> None:
    async with cached(server, shelf, capacity={"disk_bytes": 10}) as node:
        with pytest.raises(NoRoom, match=r"it takes \d+ bytes of disk, and the node has 10 bytes"):
            await node.manager.ensure("a")


async def test_memory_is_what_the_server_measures(server: EmbeddedNode, shelf: Path) -> None:
    (shelf / "a" / "tbms.json").write_text(json.dumps({"memory_bytes": 3_000_000}))
    async with cached(server, shelf, capacity={"memory_bytes": 10_000_000}) as node:
        (await node.manager.ensure("a")).release()
        (status,) = node.manager.status().models
        assert status.memory_bytes == 3_000_000


async def test_two_versions_side_by_side(server: EmbeddedNode, shelf: Path, loader: dict[str, str]) -> None:
    write_onnx(shelf, "a", 2, factor=3.0)
    async with cached(server, shelf, loader=loader) as node:
        (await node.manager.ensure("a", 1)).release()
        (await node.manager.ensure("a")).release()
        assert await node.call("a", 1) == DOUBLED
        assert await node.call("a") == (200, [3.0, 6.0])
        await node.manager.commands.unload("a", 2)
        assert await node.call("a") == DOUBLED


async def test_a_restarted_server_is_noticed_and_refilled(
    server: EmbeddedNode, shelf: Path, loader: dict[str, str]
) -> None:
    async with cached(server, shelf, loader=loader) as node:
        for name in ("a", "b"):
            (await node.manager.ensure(name)).release()
        server.kill()
        await until(lambda: node.manager.status().server != "")
        await server.start()
        await until(lambda: node.loader.loads[Key("a", 1)] == node.loader.loads[Key("b", 1)] == 2)
        await until(lambda: set(node.states().values()) == {"available"})
        assert await node.call("a") == await node.call("b") == DOUBLED
        assert set(node.store.fetched.values()) == {1}


async def test_a_server_killed_under_a_load_gets_the_model_when_it_is_back(
    server: EmbeddedNode, shelf: Path, loader: dict[str, str]
) -> None:
    (shelf / "a" / "tbms.json").write_text(json.dumps({"load_delay_ms": 700}))
    async with cached(server, shelf, loader=loader) as node:
        call = asyncio.create_task(node.manager.ensure("a"))
        await until(lambda: node.states().get("a:1") == "loading")
        await asyncio.sleep(0.3)
        assert node.states() == {"a:1": "loading"}
        server.kill()
        await until(lambda: node.manager.status().server != "")
        await server.start()
        (await call).release()
        assert await node.call("a") == DOUBLED
        assert node.store.fetched == {Key("a", 1): 1}


async def test_a_restarted_agent_adopts_what_the_server_holds(
    server: EmbeddedNode, shelf: Path, loader: dict[str, str]
) -> None:
    async with cached(server, shelf, loader=loader) as node:
        for name in ("a", "b"):
            (await node.manager.ensure(name)).release()
    async with cached(server, shelf, loader=loader, capacity={"models": 2}) as again:
        await until(lambda: again.states() == {"a:1": "available", "b:1": "available"})
        lease = again.manager.try_acquire("a")
        assert lease is not None
        (await again.manager.ensure("c")).release()
        assert again.states() == {"a:1": "available", "c:1": "available"}
        assert await again.call("a") == DOUBLED
        assert again.store.fetched == {Key("c", 1): 1}


async def test_a_hit_is_answered_while_a_slow_model_loads(
    server: EmbeddedNode, shelf: Path, loader: dict[str, str]
) -> None:
    (shelf / "b" / "tbms.json").write_text(json.dumps({"load_delay_ms": 600}))
    async with cached(server, shelf, loader=loader) as node:
        (await node.manager.ensure("a")).release()
        slow = asyncio.create_task(node.manager.ensure("b"))
        await until(lambda: node.states().get("b:1") == "loading")
        lease = node.manager.try_acquire("a")
        assert lease is not None
        assert await node.call("a") == DOUBLED
        assert not slow.done()
        (await slow).release()
