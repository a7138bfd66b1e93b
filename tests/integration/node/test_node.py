"""Unchanged clients through an edge's Envoy and a node's Envoy to model servers that started empty."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb

from integration.peers.clients.client import Client, ClientError, Endpoints
from integration.peers.clients.tf_serving import PlainGrpc, TfServingRest
from integration.peers.clients.triton import TritonGrpc, TritonRest
from integration.stack import models
from integration.stack.cached_node import CachedNode, CachedSpec
from integration.stack.embedded import EmbeddedNode
from integration.stack.stack import Stack
from tests.integration import calls
from tests.integration.conftest import NODES, STRICTLY_BY_THE_RING, need_envoy, owner
from tests.integration.node.cache_node import until
from tests.integration.raw import channel, unary

ROOM = 3  # models on each node: less than the third of the models that it is asked for


@pytest_asyncio.fixture(
    scope="module", loop_scope="session", params=[("1.40", NODES[:2]), ("1.38", NODES[:1])], ids=["1.40", "1.38"]
)
async def stack(request: pytest.FixtureRequest, repository: Path) -> AsyncIterator[Stack[CachedNode]]:
    version, names = request.param
    need_envoy(version)
    cache = {"capacity": {"models": ROOM}, "room_seconds": 30}
    specs = [CachedSpec(name, cache=cache, envoy=version) for name in names]
    async with Stack(repository, specs, envoy=version, sections=STRICTLY_BY_THE_RING) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session", params=[TfServingRest, PlainGrpc, TritonRest, TritonGrpc])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    opened = request.param()
    yield opened
    await opened.close()


async def empty(stack: Stack[CachedNode]) -> None:
    """Returns once the nodes hold nothing and the edge knows: what drains at home would be loaded elsewhere."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as admin:
        for node in stack.nodes.values():
            for book in await node.books():
                await admin.post(f"{node.agent.admin}/models/{book['model']}/unload")

    async def known() -> bool:
        return not any((await stack.edge.status())["models"].values())

    await until(known)


async def test_every_model_answers_as_it_does_where_it_is_loaded(
    stack: Stack[CachedNode], client: Client, names: list[str], nodes: dict[str, EmbeddedNode]
) -> None:
    await empty(stack)
    images = models.digits()[1].images[:4]
    node = nodes["node-a"]
    through, direct = Endpoints(stack.edge.target, stack.edge.http), Endpoints(node.grpc, node.rest)
    # All at once: more models than the nodes have room for together.
    replies = await asyncio.gather(*(client.predict(through, name, images) for name in names))
    for name, reply in zip(names, replies, strict=True):
        expected = await client.predict(direct, name, images)
        np.testing.assert_array_equal(reply.labels, expected.labels)
        assert reply.reply == expected.reply
    for name, each in stack.nodes.items():
        books = await each.books()
        available = [book["model"] for book in books if book["state"] == "available"]
        assert len(available) <= ROOM
        assert {owner(model, tuple(stack.nodes)) for model in available} == {name}, "each node loads its own"


async def test_an_unknown_model_is_told_in_the_clients_words(stack: Stack[CachedNode], client: Client) -> None:
    images = models.digits()[1].images[:1]
    with pytest.raises(ClientError, match="No store has a model 'nobody'"):
        await client.predict(Endpoints(stack.edge.target, stack.edge.http), "nobody", images)


async def conversations(stack: Stack[CachedNode]) -> Counter[str]:
    """How many the nodes' Envoys have had with their servers, by the way in which they were held."""
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient(trust_env=False) as admin:
        for node in stack.nodes.values():
            text = (await admin.get(f"{node.agent.envoy_admin}/stats?filter=ext_proc.*streams_started")).text
            for name, count in (line.rsplit(": ", 1) for line in text.splitlines()):
                counts[name.split(".ext_proc.")[1].split(".")[0]] += int(count)
    return counts


async def test_a_node_does_not_read_again_what_only_the_body_names(stack: Stack[CachedNode], names: list[str]) -> None:
    """A gRPC call that only its body names is read once: the edge tells the node by a header."""
    await empty(stack)
    images = models.digits()[1].images[:1]
    request = pb.ModelInferRequest.FromString(calls.v2_grpc(names[0], images).message)
    request.model_version = "1"
    async with channel(stack.edge.target) as through:
        before = await conversations(stack)
        reply = await unary(through, calls.V2_INFER, request.SerializeToString(), timeout=60)
        assert reply.code == "OK", reply.details
        assert await conversations(stack) - before == Counter(open=1)
        held = {key for node in stack.nodes.values() for key in await node.states()}
        assert f"{names[0]}:1" in held
        request.model_version = "2"
        reply = await unary(through, calls.V2_INFER, request.SerializeToString(), timeout=60)
        assert (reply.code, "version 2" in reply.details) == ("NOT_FOUND", True), reply.details
