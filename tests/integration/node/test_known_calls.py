"""Known calls at a node: they pass its Envoy without the server, and no model is unloaded under one, on every Envoy."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb

from ext_proc.contract import ONE_IN_KEY
from integration.stack.cached_node import CachedNode, CachedSpec
from tests.integration.calls import V2_INFER
from tests.integration.conftest import need_envoy
from tests.integration.known.asked import asked, until_known, until_map
from tests.integration.node.cache_node import until
from tests.integration.node.scripted_models import SLOW, ScriptedModels, scripted_models
from tests.integration.raw import channel, rest, rest_client, unary

pytestmark = pytest.mark.envoy

_names = (f"k{number}" for number in count())


@dataclass
class Scene:
    """A node with room for two models, before a model server that writes down what must never happen."""

    node: CachedNode
    server: ScriptedModels
    shelf: Path

    def new_model(self) -> str:
        name = next(_names)
        (self.shelf / name / "1").mkdir(parents=True)
        (self.shelf / name / "1" / "weights").write_bytes(name.encode())
        return name

    async def known_model(self) -> str:
        name = self.new_model()
        await until_known(self.node.agent, path_of(name))
        return name

    async def state(self, model: str) -> str:
        return (await self.node.states()).get(f"{model}:1", "absent")

    async def in_flight(self, model: str) -> int:
        return next((int(each["in_flight"]) for each in await self.node.books() if each["model"] == model), 0)


def path_of(model: str) -> str:
    return f"/v2/models/{model}/infer"


def infer(model: str, request_id: str = "") -> bytes:
    return pb.ModelInferRequest(model_name=model, id=request_id).SerializeToString()


@asynccontextmanager
async def scene_of(folder: Path, envoy: str, *, sampled_from: float = 50.0) -> AsyncIterator[Scene]:
    need_envoy(envoy)
    shelf = folder / "shelf"
    shelf.mkdir()
    async with scripted_models() as server:
        settings = {"capacity": {"models": 2}, "room_seconds": 60}
        node = CachedNode(CachedSpec("node", cache=settings, envoy=envoy, known=True), shelf, folder, server.served)
        node.agent.add_to("known", {"sampled_from": sampled_from})
        async with node:
            yield Scene(node, server, shelf)
        server.open_gates()
        assert server.mistakes == []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with scene_of(tmp_path_factory.mktemp("known"), "1.40") as scene:
        yield scene


@pytest.fixture
def scene(running: Scene) -> Any:
    yield running
    running.server.open_gates()
    assert running.server.mistakes == []


async def test_a_known_call_passes_and_the_server_hears_of_it_when_it_has_ended(scene: Scene) -> None:
    model, agent = await scene.known_model(), scene.node.agent
    before, calls = await asked(agent), (await agent.status())["calls"].get("known", 0)
    async with rest_client(agent.http) as client, channel(agent.target) as through:
        for _ in range(10):
            reply = await rest(client, path_of(model), b"body")
            assert (reply.status, reply.body) == (200, b"firstbody-last")
        assert await asked(agent) == before
        for http_headers in ({"x-tbms-residency": "?1"}, {"x-tbms-call": "40.0"}, {"x-tbms-session": "s;idle=5"}):
            before = await asked(agent)
            answer = await client.post(path_of(model), content=b"", headers=http_headers)
            assert answer.status_code == 200
            assert ("x-tbms-residency" in answer.headers) is ("x-tbms-residency" in http_headers)
            assert await asked(agent) == before + 1
        async with asyncio.timeout(30):
            while True:
                before = await asked(agent)
                assert (await unary(through, V2_INFER, infer(model), [("x-tbms-model", model)])).code == "OK"
                if await asked(agent) == before:
                    break
                await asyncio.sleep(0.05)
        assert (await unary(through, V2_INFER, infer(model))).code == "OK", "named by its message only: the server's"
        assert await asked(agent) == before + 1
    await until(lambda: _told(scene, calls + 11))
    assert (await agent.status())["logs"] == 1


async def _told(scene: Scene, calls: int) -> bool:
    return bool((await scene.node.agent.status())["calls"].get("known", 0) >= calls)


@pytest.mark.parametrize("version", ["1.40", "1.36"])
async def test_on_the_oldest_envoy_too_and_where_not_every_call_is_told_of(version: str, tmp_path: Path) -> None:
    """Of a model that is called often some calls stand for the others when they have ended; all that run say so."""
    async with scene_of(tmp_path, version, sampled_from=1.0) as scene:
        await test_an_idle_envoy_lets_a_model_go_at_once(scene)
        await hold_under_a_known_call(scene, "grpc", often=True)


@pytest.mark.parametrize("by", ["rest", "grpc"])
async def test_no_model_is_unloaded_under_a_known_call(scene: Scene, by: str) -> None:
    """A call that runs is found out, and holds its model until it has ended; the operator's unload waits for that."""
    await hold_under_a_known_call(scene, by)


async def hold_under_a_known_call(scene: Scene, by: str, *, often: bool = False) -> None:
    model, agent = await scene.known_model(), scene.node.agent
    async with rest_client(agent.http) as client, channel(agent.target) as through:
        if by == "grpc":
            async with asyncio.timeout(30):
                before = -1
                while await asked(agent) != before:
                    before = await asked(agent)
                    await unary(through, V2_INFER, infer(model), [("x-tbms-model", model)])
                    await asyncio.sleep(0.05)
        file = Path((await agent.status())["known"]["file"])
        async with asyncio.timeout(30):
            while often and ONE_IN_KEY.encode() not in file.read_bytes():
                await rest(client, path_of(model), b"x")
                await asyncio.sleep(0.01)
        await until_map(agent, lambda known: bool(known["taken"]))
        before = await asked(agent)
        scene.server.may_end.clear()
        if by == "rest":
            call = asyncio.create_task(rest(client, path_of(model), b"slow", {SLOW: "1"}))
        else:
            call = asyncio.create_task(unary(through, V2_INFER, infer(model, SLOW), [("x-tbms-model", model)]))
        await until(lambda: scene.server.half_way == 1)
        assert await asked(agent) == before, "the call is a known one"
        unloading = asyncio.create_task(unload(scene, model))
        await until(lambda: _is(scene, model, "draining"))
        await asyncio.sleep(2.5)
        assert not unloading.done()
        assert model in scene.server.held
        assert await scene.in_flight(model) == 1
        scene.server.may_end.set()
        reply = await call
        assert reply.code == "OK" if by == "grpc" else reply.status == 200
        async with asyncio.timeout(10):
            assert await unloading == 200
    assert model not in scene.server.held


async def _is(scene: Scene, model: str, state: str) -> bool:
    return await scene.state(model) == state


async def unload(scene: Scene, model: str) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:
        return (await http.post(f"{scene.node.agent.admin}/models/{model}/unload")).status_code


async def test_an_idle_envoy_lets_a_model_go_at_once(scene: Scene) -> None:
    model = await scene.known_model()
    before = (await until_map(scene.node.agent, lambda known: bool(known["taken"])))["version"]
    began = asyncio.get_running_loop().time()
    assert await unload(scene, model) == 200
    assert asyncio.get_running_loop().time() - began < 5.0, "not as long as an Envoy is waited for that says nothing"
    assert (await until_map(scene.node.agent, lambda known: bool(known["taken"])))["version"] != before


async def test_an_envoy_that_was_configured_before_there_was_a_map_costs_no_wait(tmp_path: Path) -> None:
    """The server keeps a map, which nobody reads: it is told so, and nothing is known, nor waited for at an unload."""
    need_envoy("1.40")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    async with scripted_models() as server:
        node = CachedNode(CachedSpec("node"), shelf, tmp_path, server.served)
        node.agent.put("known", {"enabled": False})
        async with node:
            assert (await node.agent.status())["known_off"] == "known.enabled is off"
            await node.agent.server.stop()
            node.agent.put("known", {"file": str(tmp_path / "known.pb"), "seconds": 0.1})
            node.agent.write_config()
            await node.agent.start_server()
            scene = Scene(node, server, shelf)
            model = scene.new_model()
            await until_map(node.agent, lambda known: bool(known["cause"]) and known["version"] is not None)
            async with rest_client(node.agent.http) as client:
                for _ in range(10):
                    before = await asked(node.agent)
                    assert (await rest(client, path_of(model), b"body")).status == 200
                    assert await asked(node.agent) == before + 1
            known = (await node.agent.status())["known"]
            assert (known["taken"], known["models"]) == (None, 0)
            assert known["cause"].startswith("It has no filter that reads the map")
            began = asyncio.get_running_loop().time()
            assert await unload(scene, model) == 200
            assert asyncio.get_running_loop().time() - began < 15.0, "not as long as an Envoy is waited for"
        assert server.mistakes == []


async def test_models_are_evicted_all_the_time_under_load_and_no_call_is_lost(scene: Scene) -> None:
    """Two places for six models, of which some are in the map when they have to go; each call is answered, in full."""
    agent = scene.node.agent
    models = [scene.new_model() for _ in range(6)]
    unloads = len(scene.server.unloads)
    statuses: Counter[int] = Counter()
    wanted, ended = models[:2], False

    async def caller(number: int) -> None:
        async with rest_client(agent.http) as client:
            turn = 0
            while not ended:
                turn += 1
                body = f"{number}.{turn}".encode()
                reply = await rest(client, path_of(wanted[turn % 2]), body)
                statuses[reply.status] += 1
                assert reply.body == b"first" + body + b"-last"
                await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as callers, rest_client(agent.http) as client:
        for number in range(4):
            callers.create_task(caller(number))
        for phase in range(5):
            # Once calls of two are known, a third is asked for as well, and then two others in their place.
            wanted = [models[(2 * phase + each) % 6] for each in range(2)]
            known = (await agent.status())["calls"].get("known", 0)
            await until(lambda known=known: _told(scene, known + 5))
            assert (await rest(client, path_of(models[(2 * phase + 2) % 6]), b"third")).status == 200
        ended = True
    assert set(statuses) == {200}
    assert len(scene.server.unloads) - unloads >= 8, "each phase but the first had to have room made for its two"


async def test_a_known_call_that_fails_has_the_model_server_looked_at(scene: Scene) -> None:
    """A model server that was restarted empty while its connection stayed: the first call that fails tells."""
    model = await scene.known_model()
    try:
        async with rest_client(scene.node.agent.http) as client:
            scene.server.lacks = True

            async def call_fails() -> bool:
                scene.server.held.discard(model)  # the node looks by itself, too, now and then, and may be first
                return (await rest(client, path_of(model), b"x")).status == 404

            await until(call_fails)
            await until(lambda: model in scene.server.held)
            assert (await rest(client, path_of(model), b"x")).status == 200
    finally:
        scene.server.lacks = False


async def test_with_the_server_dead_known_calls_pass_and_a_new_one_waits_before_it_unloads(scene: Scene) -> None:
    model, agent = await scene.known_model(), scene.node.agent
    async with rest_client(agent.http) as client:
        agent.server.kill()
        try:
            for _ in range(30):
                assert (await rest(client, path_of(model), b"x")).body == b"firstx-last"
            scene.server.may_end.clear()
            call = asyncio.create_task(rest(client, path_of(model), b"slow", {SLOW: "1"}))
            await until(lambda: scene.server.half_way == 1)
        finally:
            await agent.start_server()
        await until(lambda: _is(scene, model, "available"))
        unloading = asyncio.create_task(unload(scene, model))
        await asyncio.sleep(3.5)
        assert not unloading.done()
        assert model in scene.server.held
        scene.server.may_end.set()
        assert (await call).status == 200
        async with asyncio.timeout(10):
            assert await unloading == 200
