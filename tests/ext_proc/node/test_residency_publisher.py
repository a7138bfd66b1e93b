"""A node's publish port and the commands of its admin port, over the loopback, with a model cache in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ext_proc.admin.http_port import HttpListener
from ext_proc.errors import TbmsError
from ext_proc.node import residency_publisher
from ext_proc.node.operator_api import OperatorApi
from ext_proc.node.residency_publisher import ResidencyPublisher
from ext_proc.node.settings import NodeRoleSettings
from integration.stack.ports import free_port
from mesh.model_cache.manager import Manager
from mesh.model_cache.settings import CacheSettings
from mesh.residency.line import Heard, Lines
from mesh.residency.settings import ResidencySettings
from mesh.residency.state import Residency
from tests.mesh.model_cache.cache import at_once
from tests.mesh.model_cache.peers import MemoryServer, MemoryStore

AVAILABLE = Residency.AVAILABLE


class Node:
    def __init__(
        self, manager: Manager, store: MemoryStore, server: MemoryServer, port: int, http: aiohttp.ClientSession
    ) -> None:
        self.manager = manager
        self.store = store
        self.server = server
        self.publisher = ResidencyPublisher(manager, heartbeat_seconds=0.05)
        self.port = port
        self.http = http

    async def post(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.http.post(path, headers=headers) as reply:
            return reply.status, await reply.json()

    @asynccontextmanager
    async def lines(self) -> AsyncIterator["Ear"]:
        async with self.http.get("/residency") as reply:
            assert reply.status == 200
            yield Ear(reply)


class Ear:
    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply
        self._lines = Lines()
        self._heard: list[Heard] = []

    async def next(self) -> Heard:
        async with asyncio.timeout(60):
            while not self._heard:
                self._heard = self._lines.push(await self._reply.content.readany())
        return self._heard.pop(0)

    async def until(self, model: str, state: Residency) -> Heard:
        while True:
            heard = await self.next()
            if heard.models.get(model) is state:
                return heard


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Node]:
    chosen = CacheSettings.model_validate({"folder": folder, "min_age_seconds": 0, **settings})
    store, server = MemoryStore(seconds=0.02), MemoryServer(seconds=0.05)
    manager = Manager(chosen, store, server, clock=asyncio.get_running_loop().time, offload=at_once)
    port = free_port()
    async with manager.running(), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        node = Node(manager, store, server, port, http)
        routes = [*node.publisher.routes(), *OperatorApi(manager).routes()]
        listener = HttpListener("node.publish", f"127.0.0.1:{port}", routes)
        await listener.start()
        try:
            yield node
        finally:
            await listener.stop()


async def test_everything_first_then_changes_then_signs_of_life(tmp_path: Path) -> None:
    async with running(tmp_path, capacity={"models": 3}) as node:
        for model in ("a", "b"):
            node.store.put(model)
        await node.manager.commands.load("a")
        async with node.lines() as ear:
            first = await ear.next()
            assert (first.full, first.models, first.leaving, first.free_models) == (True, {"a": AVAILABLE}, False, 2)
            assert (await ear.next()).models == {}
            await node.manager.commands.load("b")
            assert (await ear.until("b", AVAILABLE)).free_models == 1
            node.manager.node_report.leave()
            while not (heard := await ear.next()).leaving:
                pass
            assert heard.models == {}
            assert (await ear.next()).leaving  # the signs of life say it too


async def test_watchers_are_counted_bounded_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency_publisher, "MAX_WATCHERS", 1)
    async with running(tmp_path) as node:
        async with node.lines() as ear:
            await ear.next()
            assert node.publisher.watchers == 1
            async with node.http.get("/residency") as second:
                assert second.status == 503
        async with asyncio.timeout(60):
            while node.publisher.watchers:
                await asyncio.sleep(0.01)
        async with node.lines() as ear:
            assert (await ear.next()).full


async def test_people_may_look_and_are_no_watchers(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.store.put("a")
        port = free_port()
        listener = HttpListener("server.admin", f"127.0.0.1:{port}", node.publisher.routes(counted=False))
        await listener.start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http, http.get("/residency") as reply:
            assert (await Ear(reply).next()).full
            assert node.publisher.watchers == 0
            async with http.post("/models/a/warm") as warmed:
                assert warmed.status == 404
        await listener.stop()


async def test_a_watcher_that_takes_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency_publisher, "_WRITE_SECONDS", 0.2)
    async with running(tmp_path) as node:
        monkeypatch.setattr(residency_publisher, "write_line", lambda _: b"x" * 1_000_000)
        _, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=1024)
        writer.write(b"GET /residency HTTP/1.1\r\nhost: node\r\n\r\n")
        async with asyncio.timeout(60):
            while not node.publisher.watchers:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while node.publisher.watchers:
                await asyncio.sleep(0.01)
        writer.close()


async def test_many_edges_that_warm_one_model_cause_one_load(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.store.put("a")
        answers = await asyncio.gather(*(node.post("/models/a/warm") for _ in range(20)))
        assert answers == [(200, {"model": "a"})] * 20
        assert len(node.server.loads) == 1


async def test_what_cannot_be_warmed_is_refused_in_words(tmp_path: Path) -> None:
    async with running(tmp_path, capacity={"models": 1}) as node:
        node.store.put("a")
        node.store.put("b")
        assert await node.post("/models/nothing/warm") == (404, {"error": "No store has a model 'nothing'."})
        status, _ = await node.post("/models/..%2Fetc/warm")
        assert status == 400
        assert (await node.post("/models/a/warm?room=free"))[0] == 200
        assert (await node.post("/models/b/warm?room=free"))[0] == 503
        assert (await node.post("/models/b/warm"))[0] == 200  # what calls come for may push another one out
        node.publisher.leaving = True
        assert await node.post("/models/a/warm") == (503, {"error": "This node is leaving."})


async def test_free_room_is_that_of_all_that_a_model_needs(tmp_path: Path) -> None:
    async with running(tmp_path, capacity={"models": 3}, needs={"user": ["part"]}) as node:
        for name in ("user", "part", "a", "b"):
            node.store.put(name)
        assert (await node.post("/models/a/warm?room=free"))[0] == 200
        assert (await node.post("/models/b/warm?room=free"))[0] == 200
        refused = (503, {"error": "Another model would have to go."})
        assert await node.post("/models/user/warm?room=free") == refused, "one place is free, and it takes two"
        assert (await node.post("/models/part/warm?room=free"))[0] == 200
        assert (await node.post("/models/b/warm?room=free"))[0] == 200, "it is there"


async def test_free_room_is_that_of_memory_too(tmp_path: Path) -> None:
    memory = {"small": 40, "large": 70, "other": 50}
    async with running(tmp_path, capacity={"memory_bytes": 100}, memory_bytes=memory) as node:
        for name in memory:
            node.store.put(name)
        assert (await node.post("/models/small/warm?room=free"))[0] == 200
        assert (await node.post("/models/large/warm?room=free"))[0] == 503
        assert (await node.post("/models/other/warm?room=free"))[0] == 200


async def test_commands(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        node.store.put("a", version=3)
        assert await node.post("/models/a/load") == (200, {"model": "a", "version": 3})
        assert node.manager.node_report.residency().models == {"a": AVAILABLE}
        assert (await node.post("/models/a/pin"))[0] == 200
        status, answer = await node.post("/models/a/unload")
        assert status == 409
        assert "pinned" in answer["error"]
        assert (await node.post("/models/a/unpin"))[0] == 200
        assert (await node.post("/models/a/unload?version=3"))[0] == 200
        assert node.manager.node_report.residency().models == {}
        assert (await node.post("/models/a/unload")) == (
            404,
            {"error": "Model 'a' is not loaded on this node.", "cause": "Model 'a' is not loaded on this node."},
        )
        assert (await node.post("/models/a/load?version=newest"))[0] == 400
        assert (await node.post("/models/a/pin?version=3"))[0] == 400
        assert (await node.post("/models/a/load?version=9"))[0] == 404
        assert (await node.post("/models/a/load", origin="http://evil.example"))[0] == 403
        assert node.manager.node_report.residency().models == {}


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TbmsError, match=r"node\.publish: cannot listen"):
        await HttpListener("node.publish", f"127.0.0.1:{port}", []).start()
    server.close()
    await server.wait_closed()


def test_edges_outwait_three_heartbeats() -> None:
    assert ResidencySettings().silence > 3 * NodeRoleSettings.model_fields["heartbeat_seconds"].default
