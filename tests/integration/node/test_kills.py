"""A real node over a store that does as it is told: killed in the middle of a fetch and an unload, a store that hangs
or lies, a full disk, and 200 first calls at once."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from integration.stack.cached_node import CachedNode, CachedSpec
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY
from tests.integration.metrics import metric
from tests.integration.node.cache_node import until, write_onnx
from tests.mesh.model_cache.stores.scripted_s3 import ScriptedS3, scripted_s3

PART = 64 << 10
DISK = 4 << 20
WEIGHTS = b"w" * (4 * PART)
LAZY_MS = 700
STALL = 3.0


@dataclass
class Scene:
    """A node, its store, and the reads that the store keeps waiting: those after a model's first part of weights."""

    node: CachedNode
    store: ScriptedS3
    http: httpx.AsyncClient
    small: bool
    hanging: set[str] = field(default_factory=set)
    waiting: Counter[str] = field(default_factory=Counter)

    async def on_read(self, key: str, first: int) -> web.StreamResponse | None:
        model = key.split("/")[1]
        if first > 0:
            self.waiting[model] += 1
            try:
                await until(lambda: model not in self.hanging, seconds=60)
            finally:
                self.waiting[model] -= 1
        return None

    async def call(self, model: str) -> tuple[int, str]:
        """Status, and what is wrong; nothing is wrong with the right answer."""
        reply = await self.http.post(f"/v2/models/{model}/infer", content=BODY)
        if reply.status_code != 200:
            return reply.status_code, reply.json()["error"]
        return 200, "" if reply.json()["outputs"][0]["data"] == [2.0, 4.0] else reply.text

    async def state(self, model: str) -> str | None:
        return (await self.node.states()).get(f"{model}:1")

    async def becomes(self, model: str, state: str) -> None:
        async def so() -> bool:
            return await self.state(model) == state

        await until(so)

    async def half_fetched(self, model: str) -> asyncio.Task[tuple[int, str]]:
        """A call for a model of which a part is on the disk, and the rest on its way."""
        self.hanging.add(model)
        call = asyncio.create_task(self.call(model))
        await until(lambda: self.waiting[model] > 0)
        assert not self.folder(model).exists(), "a model server would take it for a whole one"
        return call

    def folder(self, model: str) -> Path:
        return self.node.cache / "models" / model / "1"

    def times_read(self, model: str) -> Counter[tuple[str, int]]:
        return Counter((key, first) for key, first, _ in self.store.reads if key.startswith(f"p/{model}/"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    need_envoy("1.40")
    folder = tmp_path_factory.mktemp("node")
    disk = folder / "cache"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk], capture_output=True)
    async with AsyncExitStack() as stack:
        if mounted.returncode == 0:
            stack.callback(subprocess.run, ["umount", disk], check=True)
        store = await stack.enter_async_context(scripted_s3())
        put(store, tmp_path_factory.mktemp("shelf"))
        given = store.settings
        section = {"url": given.url, "endpoint": given.endpoint, "region": "us-east-1", "anonymous": True}
        section |= {"part_bytes": PART, "concurrency": 1}
        cache = {"fetch_stall_seconds": STALL, "back_off": {"first_seconds": 0.2}}
        node = await stack.enter_async_context(
            CachedNode(CachedSpec("node", cache=cache, store=section), folder, folder)
        )
        limits = httpx.Limits(max_connections=None)
        client = httpx.AsyncClient(base_url=node.agent.http, limits=limits, timeout=60, trust_env=False)
        http = await stack.enter_async_context(client)
        here = Scene(node, store, http, small=mounted.returncode == 0)
        store.on_read = here.on_read
        yield here


def put(store: ScriptedS3, shelf: Path) -> None:
    names = ("fetched", "cut", "drained", "unloaded", "stuck", "popular", "damaged", "huge")
    for name in names:
        write_onnx(shelf, name)
        files = {"1/model.onnx": (shelf / name / "1" / "model.onnx").read_bytes(), "1/weights": WEIGHTS}
        if name in ("drained", "unloaded"):
            files["tbms.json"] = b'{"delay_ms": %d}' % LAZY_MS
        for path, content in files.items():
            store.bodies[f"p/{name}/{path}"] = (content, f'"{name}-{path}"')
    store.bodies["p/huge/1/more"] = (bytes(DISK), '"huge"')


async def test_the_server_is_killed_in_the_middle_of_a_fetch(scene: Scene) -> None:
    held = await scene.half_fetched("fetched")
    scene.node.agent.server.kill()
    await until(lambda: scene.waiting["fetched"] == 0)  # the store has seen that nobody waits for this read
    scene.hanging.clear()
    await scene.node.agent.start_server()
    assert await held == (200, ""), "Envoy has asked the new process"
    assert set(scene.times_read("fetched").values()) == {1}, "it went on where it was"


async def test_the_model_server_is_killed_in_the_middle_of_a_fetch(scene: Scene) -> None:
    held = await scene.half_fetched("cut")
    assert scene.node.models is not None
    scene.node.models.kill()
    await scene.node.models.start()
    scene.hanging.clear()
    assert await held == (200, "")


async def test_the_server_is_killed_while_it_unloads_a_model(scene: Scene) -> None:
    assert await scene.call("drained") == (200, "")
    in_use = asyncio.create_task(scene.call("drained"))
    unload = await unloading(scene, "drained")
    scene.node.agent.server.kill()
    assert await in_use == (200, "")
    with pytest.raises(httpx.HTTPError):
        await unload
    await scene.node.agent.start_server()
    assert await scene.call("drained") == (200, "")
    assert set(scene.times_read("drained").values()) == {1}, "the model server has kept it"


async def test_the_model_server_is_killed_while_a_model_is_unloaded(scene: Scene) -> None:
    assert await scene.call("unloaded") == (200, "")
    in_use = asyncio.create_task(scene.call("unloaded"))
    unload = await unloading(scene, "unloaded")
    assert scene.node.models is not None
    scene.node.models.kill()
    assert (await in_use)[0] == 503
    await scene.node.models.start()
    assert (await unload).status_code == 200
    assert not scene.folder("unloaded").exists()
    assert await scene.call("unloaded") == (200, "")


async def unloading(scene: Scene, model: str) -> asyncio.Task[httpx.Response]:
    """An operator's unload that waits for a call in flight."""

    async def in_flight() -> bool:
        return any(book["model"] == model and book["in_flight"] == 1 for book in await scene.node.books())

    async def unload() -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as admin:
            return await admin.post(f"{scene.node.agent.admin}/models/{model}/unload")

    await until(in_flight)
    task = asyncio.create_task(unload())
    await scene.becomes(model, "draining")
    return task


async def test_a_store_that_hangs_holds_up_its_own_model_only(scene: Scene) -> None:
    held = await scene.half_fetched("stuck")
    assert await scene.call("fetched") == (200, "")
    assert not held.done()
    assert await held == (503, "Model 'stuck' cannot be fetched now: its store does not answer as it should.")
    (book,) = [book for book in await scene.node.books() if book["model"] == "stuck"]
    assert (book["state"], book["cause"]) == ("failed", "The fetch of model stuck:1 made no progress for 3 s.")
    scene.hanging.clear()
    await scene.becomes("stuck", "absent")
    assert await scene.call("stuck") == (200, "")


async def test_200_first_calls_are_one_fetch_and_one_load(scene: Scene) -> None:
    before = await metric(scene.node.agent.admin, "tbms_cache_cold_calls_total")
    scene.hanging.add("popular")
    calls = [asyncio.create_task(scene.call("popular")) for _ in range(200)]

    async def all_wait() -> bool:
        return any(book["model"] == "popular" and book["waiting"] == 200 for book in await scene.node.books())

    await until(all_wait)
    scene.hanging.clear()
    assert set(await asyncio.gather(*calls)) == {(200, "")}
    assert set(scene.times_read("popular").values()) == {1}
    assert await metric(scene.node.agent.admin, "tbms_cache_cold_calls_total") - before == 200


async def test_what_a_store_damages_is_not_loaded(scene: Scene) -> None:
    whole, etag = scene.store.bodies["p/damaged/1/weights"]
    held = await scene.half_fetched("damaged")
    scene.store.bodies["p/damaged/1/weights"] = (whole[:-100], etag)
    scene.hanging.clear()
    assert await held == (424, "Model 'damaged' is damaged in its store.")
    assert not scene.folder("damaged").exists()


async def test_a_disk_without_room(scene: Scene) -> None:
    if not scene.small:
        pytest.skip("no small disk to be had here")
    assert await scene.call("huge") == (507, "Model 'huge' is too large for what this node's disk has free.")
    assert not scene.folder("huge").exists()
    assert await scene.call("fetched") == (200, "")
