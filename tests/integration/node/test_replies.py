"""How long a node holds on to a model: until the reply has ended, whatever kind of reply, on every Envoy."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc.aio
import httpx
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb

from integration.stack.cached_node import CachedNode, CachedSpec
from tests.integration import calls
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import until
from tests.integration.node.scripted_models import SLOW, ScriptedModels, scripted_models
from tests.integration.raw import channel, rest, rest_client, unary
from tests.mesh.model_cache.stores.scripted_s3 import ScriptedS3, scripted_s3

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
_names = (f"m{number}" for number in count())


@dataclass
class Scene:
    node: CachedNode
    server: ScriptedModels
    store: ScriptedS3

    def new_model(self) -> str:
        name = next(_names)
        self.store.bodies[f"p/{name}/1/weights"] = (b"weights of " + name.encode(), f'"{name}"')
        return name

    async def book(self, model: str) -> dict[str, Any]:
        return next((each for each in await self.node.books() if each["model"] == model), {"state": "absent"})

    async def wait_for(self, model: str, **wanted: object) -> None:
        async def reached() -> bool:
            book = await self.book(model)
            return all(book.get(key) == value for key, value in wanted.items())

        await until(reached)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp(f"node-{request.param}")
    async with scripted_s3() as store, scripted_models() as server:
        at = {"url": store.settings.url, "endpoint": store.settings.endpoint, "region": "us-east-1", "anonymous": True}
        cache = {"capacity": {"models": 2}, "room_seconds": 60}
        spec = CachedSpec("node", cache=cache, store=at, envoy=request.param)
        async with CachedNode(spec, folder, folder, server.served) as node:
            yield Scene(node, server, store)


@pytest.fixture
def scene(running: Scene) -> Any:
    yield running
    running.server.open_gates()
    assert running.server.mistakes == []


def infer(model: str, request_id: str = "") -> bytes:
    return pb.ModelInferRequest(model_name=model, id=request_id).SerializeToString()


# The lease lasts as long as the reply.


def over_rest(scene: Scene, http2: bool, method: str, how: str) -> Any:
    async def call(model: str) -> None:
        async with rest_client(scene.node.agent.http, http2=http2) as client:
            body = b"b" * 100_000 if method == "POST" else None
            path = f"/v2/models/{model}/{'infer' if body else 'config'}?{SLOW}&how={how}"
            reply = await rest(client, path, body)
            assert reply.status == 200
            assert reply.body.startswith(b"whole" if how == "late" else b"first")

    return call


def over_grpc(scene: Scene, named: bool, stream: bool) -> Any:
    async def call(model: str) -> None:
        metadata = [("x-tbms-model", model)] if named else []
        async with channel(scene.node.agent.target) as through:
            if not stream:
                reply = await unary(through, calls.V2_INFER, infer(model, SLOW), metadata)
                assert reply.code == "OK"
                return
            calling = through.stream_stream(STREAM)(metadata=metadata)
            await calling.write(infer(model, SLOW))
            replies = [await calling.read()]
            await calling.done_writing()
            while (reply := await calling.read()) is not grpc.aio.EOF:
                replies.append(reply)
            assert [pb.ModelStreamInferResponse.FromString(each).error_message for each in replies] == ["first", "last"]

    return call


REST_KINDS = {
    f"{'http2' if http2 else 'http1'}-{method}-{how}": (over_rest, http2, method, how)
    for http2 in (False, True)
    for method in ("GET", "POST")
    for how in ("late", "length", "chunked")
}
GRPC_KINDS = {
    f"grpc-{'stream' if stream else 'unary'}-{'named' if named else 'unnamed'}": (over_grpc, named, stream)
    for named in (False, True)
    for stream in (False, True)
}
KINDS: dict[str, tuple[Any, ...]] = REST_KINDS | GRPC_KINDS


@pytest.mark.parametrize("kind", KINDS)
async def test_a_model_is_in_use_until_the_reply_has_ended(scene: Scene, kind: str) -> None:
    write, *options = KINDS[kind]
    call, model = write(scene, *options), scene.new_model()
    scene.server.may_end.clear()
    for asked in ("cold", "resident"):
        scene.server.may_end.clear()
        calling = asyncio.create_task(call(model))
        await until(lambda: scene.server.half_way == 1)
        assert (await scene.book(model))["in_flight"] == 1, asked
        assert not calling.done()
        scene.server.may_end.set()
        await calling
        await scene.wait_for(model, in_flight=0)


async def test_a_client_that_hangs_up_gives_its_lease_back(scene: Scene) -> None:
    model = scene.new_model()
    scene.server.may_end.clear()
    for kind in ("http1-POST-chunked", "http2-GET-late", "grpc-unary-unnamed", "grpc-stream-unnamed"):
        write, *options = KINDS[kind]
        calling = asyncio.create_task(write(scene, *options)(model))
        await until(lambda: scene.server.half_way == 1)
        await scene.wait_for(model, in_flight=1)
        calling.cancel()
        await scene.wait_for(model, in_flight=0)
        await until(lambda: scene.server.half_way == 0)


# Nothing of a reply is altered.


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("size", [None, 0, 3_000_000], ids=["no body", "empty body", "3 MB"])
async def test_rest_replies_are_the_servers_own(scene: Scene, http2: bool, size: int | None) -> None:
    model, body = scene.new_model(), None if size is None else b"x" * size
    async with (
        rest_client(scene.node.agent.http, http2=http2) as through,
        rest_client(f"http://{scene.node.served.rest}") as direct,
    ):
        for how in ("late", "length", "chunked", "nothing", "error"):  # held for the first, then at once
            path = f"/v2/models/{model}/{'config' if size is None else 'infer'}?how={how}"
            mesh, expected = [await rest(client, path, body) for client in (through, direct)]
            assert mesh == expected
            assert expected.status == {"nothing": 204, "error": 418}.get(how, 200)


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
async def test_grpc_replies_are_the_servers_own(scene: Scene, named: bool) -> None:
    model = scene.new_model()
    metadata = [("x-tbms-model", model)] if named else []
    async with channel(scene.node.agent.target) as through, channel(scene.node.served.grpc) as direct:
        for method, message in (
            (calls.V2_INFER, infer(model, "i" * 3_000_000)),
            (calls.V2_METADATA, pb.ModelMetadataRequest(name=model).SerializeToString()),
        ):
            held, resident, expected = [
                await unary(way, method, message, metadata) for way in (through, through, direct)
            ]
            assert held == resident == dataclasses.replace(expected, upstream=None)
        assert expected.details == "in words of its own"


# One load for all who wait, and no unload under a call.


async def test_two_hundred_first_calls_are_one_fetch_and_one_load(scene: Scene) -> None:
    model = scene.new_model()
    scene.server.may_load.clear()
    async with (
        rest_client(scene.node.agent.http, http2=True) as client,
        channel(scene.node.agent.target) as through,
        asyncio.TaskGroup() as tasks,
    ):
        plain = [tasks.create_task(rest(client, f"/v2/models/{model}/infer", b"{}")) for _ in range(100)]
        framed = [tasks.create_task(unary(through, calls.V2_INFER, infer(model))) for _ in range(100)]
        await scene.wait_for(model, state="loading", waiting=200)
        scene.server.may_load.set()
    assert [call.result().status for call in plain] == [200] * 100
    assert [call.result().code for call in framed] == ["OK"] * 100
    assert scene.server.loads[model] == 1
    assert [key for key, _, _ in scene.store.reads if f"/{model}/" in key] == [f"p/{model}/1/weights"]


async def test_a_client_that_leaves_does_not_stop_the_load(scene: Scene) -> None:
    model = scene.new_model()
    scene.server.may_load.clear()
    async with rest_client(scene.node.agent.http) as client, channel(scene.node.agent.target) as through:
        waiting = [
            asyncio.create_task(rest(client, f"/v2/models/{model}/infer", b"{}")),
            asyncio.create_task(unary(through, calls.V2_INFER, infer(model))),
        ]
        await scene.wait_for(model, state="loading", waiting=2)
        for call in waiting:
            call.cancel()
        await scene.wait_for(model, state="loading", waiting=0)
        scene.server.may_load.set()
        await scene.wait_for(model, state="available", in_flight=0)
    assert scene.server.loads[model] == 1


async def test_a_model_with_calls_in_flight_is_never_unloaded(scene: Scene) -> None:
    busy, wanted = [scene.new_model(), scene.new_model()], scene.new_model()
    scene.server.may_end.clear()
    plain, framed = over_rest(scene, False, "POST", "chunked"), over_grpc(scene, False, True)
    in_flight = [asyncio.create_task(plain(busy[0])), asyncio.create_task(framed(busy[1]))]
    await until(lambda: scene.server.half_way == 2)
    async with rest_client(scene.node.agent.http) as client:
        pressing = asyncio.create_task(rest(client, f"/v2/models/{wanted}/infer", b"{}"))
        # It has been admitted to the queue for room, and none is made.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pressing), 0.5)
        assert not set(busy) & set(scene.server.unloads)
        assert scene.server.loads[wanted] == 0
        scene.server.may_end.set()
        await asyncio.gather(*in_flight)
        assert (await pressing).status == 200
    assert len(set(busy) & set(scene.server.unloads)) == 1


async def test_a_call_without_a_model_passes(scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.node.agent.http, trust_env=False) as client:
        reply = await client.get("/v9/none/of/ours?how=late")
        assert (reply.status_code, reply.content) == (200, b"whole")
        refused = await client.post("/v2/repository/models/m/unload")
        assert refused.status_code == 403
