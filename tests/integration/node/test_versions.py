"""The versions of a model in its store, through every loader and every server that it drives: `version_events`."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from integration.peers.triton import DOUBLING, DOUBLING_CONFIG, missing, triton
from integration.stack.cached_node import CachedNode, CachedSpec, Served
from integration.stack.embedded import EmbeddedNode, NodeSpec
from mesh.model_cache.books.names import Key
from mesh.model_cache.errors import Busy, CacheError, ModelMissing
from tests.integration.conftest import need_envoy
from tests.integration.kinds import BODY
from tests.integration.node.cache_node import CacheNode, cache_node, until
from tests.integration.node.version_events import (
    EVENTS,
    Event,
    File,
    Folder,
    Gone,
    Link,
    Moved,
    Put,
    Step,
    Version,
)
from tests.integration.raw import rest, rest_client
from tests.mesh.model_server import graphs

# Three servers of two kinds, by the loader that drives each.
WAYS = [
    pytest.param("v2", id="the embedded server by V2"),
    pytest.param("tf-serving", id="the embedded server by TF Serving's API"),
    pytest.param("triton", id="Triton", marks=pytest.mark.triton),
]
LOOKS = 3  # at the store, after which nothing more is to be expected of a change


@dataclass
class Way:
    """A node with a model server that it drives, and one of the same kind that has the shelf for its repository."""

    name: str
    shelf: Path
    node: CacheNode
    alone: CacheNode
    alone_grpc: str

    async def served_alone(self, model: str) -> tuple[int, Any]:
        """What a model server that has the store for its own repository answers, after a load of the model."""
        async with grpc.aio.insecure_channel(self.alone_grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=model))
            except grpc.aio.AioRpcError as error:
                return 404, error.details()
        return await self.alone.call(model)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=WAYS)
async def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Way]:
    folder = tmp_path_factory.mktemp(request.param)
    shelf, models = folder / "shelf", folder / "cache" / "models"
    shelf.mkdir()
    models.mkdir(parents=True)
    loader: dict[str, Any] = {"api": "v2" if request.param == "triton" else request.param}
    async with AsyncExitStack() as stack:
        servers = []
        for name, repository in (("driven", models), ("alone", shelf)):
            if request.param == "triton":
                if reason := missing():
                    pytest.skip(reason)
                real = await stack.enter_async_context(triton(repository))
                servers.append((real.grpc, f"http://{real.rest}"))
            else:
                embedded = EmbeddedNode(NodeSpec(name, models=frozenset()), repository, folder)
                stack.push_async_callback(embedded.stop)
                await embedded.start()
                servers.append((embedded.grpc, embedded.rest))
        settings: dict[str, Any] = {
            "loader": loader,
            "refresh_seconds": 0.05,
            "missing_seconds": 0.1,
            "back_off": {"first_seconds": 0.1, "most_seconds": 0.2},
        }
        if request.param == "triton":
            # Each load that fails starts Python processes, and a Triton that has many to give up may crash.
            settings |= {"refresh_seconds": 0.2, "back_off": {"first_seconds": 0.5, "most_seconds": 1.0}}
        (driven, alone) = servers
        node = await stack.enter_async_context(cache_node(folder / "cache", shelf, *driven, **settings))
        other = await stack.enter_async_context(cache_node(folder / "unused", shelf, *alone))
        yield Way(request.param, shelf, node, other, alone[0])


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def up(way: Way) -> None:
    """A server that has crashed under another test is there again."""
    await until(lambda: not way.node.manager.status().server and not way.alone.manager.status().server)


def put(way: Way, model: str, path: str, what: Put) -> None:
    """Makes one change in a model's folder of the store."""
    place = way.shelf / model / path
    place.parent.mkdir(parents=True, exist_ok=True)
    match what:
        case Version():
            fresh = place.with_name(f".{place.name}.fresh")
            write_version(way, fresh, what)
            if place.exists():
                shutil.rmtree(place)
            fresh.rename(place)
        case File():
            place.write_text(what.text)
        case Link():
            place.symlink_to(what.target)
        case Moved():
            (way.shelf / model / what.source).rename(place)
        case Folder():
            place.mkdir()
        case Gone():
            shutil.rmtree(place)


def write_version(way: Way, folder: Path, version: Version) -> None:
    if way.name == "triton":
        folder.mkdir()
        (folder / "model.py").write_text(DOUBLING.replace("tensor * 2", f"tensor * {version.factor:g}"))
    else:
        graphs.scaling(folder, version.factor)
    if not version.whole:
        for file in folder.iterdir():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def name_of(event: Event) -> str:
    return event.about.replace(" ", "-").replace(",", "")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.about)
async def test_event(way: Way, event: Event) -> None:
    model = name_of(event)
    (way.shelf / model).mkdir()
    if way.name == "triton":
        (way.shelf / model / "config.pbtxt").write_text(DOUBLING_CONFIG)
    steps = event.triton if way.name == "triton" and event.triton else event.steps
    for number, step in enumerate(steps):
        for path, what in step.changes.items():
            put(way, model, path, what)
        await check(way, model, step, first=number == 0)
    same = event.triton_alone if way.name == "triton" else event.alone
    if same is None:
        return
    last = steps[-1]
    status, reply = await way.served_alone(model)
    alone = reply if status == 200 else None
    expected = None if last.serves is None else [last.factor, 2 * last.factor]
    assert (alone == expected) == same, f"{event.why} Alone: {status} {reply}"


async def check(way: Way, model: str, step: Step, first: bool) -> None:
    node = way.node
    if step.serves is None:
        with pytest.raises(ModelMissing):
            await node.manager.ensure(model)
        return
    if first:
        (await node.manager.ensure(model)).release()
    loads = node.loader.loads[Key(model, step.tried)] if step.tried else 0
    looks = node.store.listed[model]
    expected = (200, [step.factor, 2 * step.factor])

    async def settled() -> bool:
        try:
            lease = await node.manager.ensure(model)
        except Busy:  # a server that has crashed is started again
            return False
        version = lease.key.version
        lease.release()
        return (
            version == step.serves
            and await node.call(model) == expected
            and (step.tried is None or node.loader.loads[Key(model, step.tried)] > loads)
            and (first or node.store.listed[model] >= looks + LOOKS)
        )

    await until(settled)
    for version, factor in step.others.items():
        (await node.manager.ensure(model, version)).release()
        assert await node.call(model, version) == (200, [factor, 2 * factor])


async def test_a_version_that_was_replaced_is_the_new_one_when_it_is_fetched_again(way: Way) -> None:
    (way.shelf / "renewed").mkdir()
    if way.name == "triton":
        (way.shelf / "renewed" / "config.pbtxt").write_text(DOUBLING_CONFIG)
    for factor in (2.0, 3.0):
        put(way, "renewed", "1", Version(factor))
        await way.node.manager.commands.unload("renewed")
        await asyncio.sleep(0.1)  # for so long what was heard of the store counts
        (await way.node.manager.ensure("renewed")).release()
        assert await way.node.call("renewed") == (200, [factor, 2 * factor])


async def test_a_broken_version_says_so_by_its_number(way: Way) -> None:
    (way.shelf / "half").mkdir()
    if way.name == "triton":
        (way.shelf / "half" / "config.pbtxt").write_text(DOUBLING_CONFIG)
    put(way, "half", "1", Version(2.0))
    put(way, "half", "2", Version(3.0, whole=False))
    put(way, "half", "3", Link("1"))
    for version, words in ((2, "does not load"), (3, "Version 3 of model 'half' is damaged in its store")):
        with pytest.raises(CacheError, match=words):
            await way.node.manager.ensure("half", version)
    (await way.node.manager.ensure("half", 1)).release()
    assert await way.node.call("half", 1) == (200, [2.0, 4.0])


@pytest.mark.envoy
async def test_through_envoy_a_release_comes_and_is_taken_back(way: Way, tmp_path: Path) -> None:
    """The one row that is asked through a node's Envoy, too: calls are answered all the while."""
    need_envoy("1.40")
    (way.shelf / "released").mkdir()
    if way.name == "triton":
        (way.shelf / "released" / "config.pbtxt").write_text(DOUBLING_CONFIG)
    put(way, "released", "1", Version(2.0))
    cache = {"loader": {"api": "v2" if way.name == "triton" else way.name}, "refresh_seconds": 0.05}
    spec = CachedSpec("node", cache=cache)
    async with AsyncExitStack() as stack:
        served = None
        if way.name == "triton":
            (tmp_path / "cache" / "models").mkdir(parents=True)
            real = await stack.enter_async_context(triton(tmp_path / "cache" / "models"))
            served = Served(real.grpc, real.rest)
        node = await stack.enter_async_context(CachedNode(spec, way.shelf, tmp_path, served))
        http = await stack.enter_async_context(rest_client(node.agent.http))

        async def doubled_by(factor: float) -> bool:
            reply = await rest(http, "/v2/models/released/infer", BODY)
            assert reply.status == 200, reply.body
            return bool(json.loads(reply.body)["outputs"][0]["data"] == [factor, 2 * factor])

        assert await doubled_by(2.0)
        put(way, "released", "2", Version(3.0))
        await until(lambda: doubled_by(3.0))
        put(way, "released", "2", Gone())
        await until(lambda: doubled_by(2.0))
