"""gRPC calls named in their message, known and not: the same nodes, bytes and words, and known ones ask nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import grpc.aio
import httpx
import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton

from ext_proc.known.forms import Form
from ext_proc.known.map_file import MapWriter
from ext_proc.whole_file import replace_file
from integration.peers.tf_client import TfClient
from integration.stack.embedded import EmbeddedNode
from integration.stack.sidecar import Sidecar
from mesh.known_map import PARTS, KnownModel
from mesh.node import Node
from tests.integration import calls
from tests.integration.conftest import BY_THE_RING, NODES, need_envoy, owner
from tests.integration.known.asked import asked
from tests.integration.raw import channel, rest_client, unary
from tests.integration.recorder import Arrival, Recorder, recorder
from tests.integration.routing.test_grpc_names import (
    GRPC,
    INFER,
    LABEL,
    NAME,
    OTHERS,
    PREDICT,
    VERSION,
    pieces,
    spec,
    tensor,
)

pytestmark = pytest.mark.envoy

NAMES = ("first", "second")
MODELS = ("acme", "model-1", "model-2", "a+b")
IMAGE = np.zeros((1, 64), dtype=np.float32)
MIB = 1 << 20


@dataclass(frozen=True)
class Ways:
    """Two edges in front of the same nodes: `known` has a map and sends by it, `asking` has none."""

    known: Sidecar
    asking: Sidecar

    async def asked(self) -> int:
        """How often Envoy has asked the server about a call."""
        return await asked(self.known)

    async def learn(self, models: tuple[str, ...]) -> None:
        """Calls each model until the map has all of them, in Envoy, too."""
        async with channel(self.known.target) as through:
            while True:
                for model in models:
                    call = calls.tfs_grpc(model, IMAGE)
                    await unary(through, call.method, call.message)
                told = (await self.known.status())["known"]
                if told["models"] == len(models) and told["taken"]:
                    return


async def two_edges(stack: AsyncExitStack, folder: Path, nodes: list[Node], version: str) -> Ways:
    (folder / "known").mkdir()
    (folder / "asking").mkdir()
    mapped = {**BY_THE_RING, "known": {"file": str(folder / "known" / "map.pb"), "seconds": 0.1}}
    known = Sidecar(folder / "known", nodes, envoy=version, sections=mapped)
    asking = Sidecar(folder / "asking", nodes, envoy=version, sections=BY_THE_RING)
    return Ways(await stack.enter_async_context(known), await stack.enter_async_context(asking))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recorders() -> AsyncIterator[dict[str, Recorder]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(recorder(name)) for name in NAMES}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def ways(
    request: pytest.FixtureRequest, recorders: dict[str, Recorder], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ways]:
    need_envoy(request.param)
    nodes = [replace(seen.node, models=frozenset(MODELS)) for seen in recorders.values()]
    async with AsyncExitStack() as stack:
        found = await two_edges(stack, tmp_path_factory.mktemp(f"ways-{request.param}"), nodes, request.param)
        await found.learn(MODELS)
        yield found


@pytest.fixture(autouse=True)
def forget(recorders: dict[str, Recorder]) -> None:
    for seen in recorders.values():
        seen.arrivals.clear()


@pytest.mark.parametrize("size", [0, 1024, MIB, 4 * MIB, 20 * MIB, 64 * MIB])
async def test_known_calls_reach_their_node_as_they_are(ways: Ways, recorders: dict[str, Recorder], size: int) -> None:
    before = await ways.asked()
    async with channel(ways.known.target) as through:
        for model in MODELS if size <= MIB else MODELS[:1]:
            field, data = calls.tfs_grpc(model, IMAGE).message, tensor(size) if size else b""
            for path, message in ((PREDICT, field + data), (INFER, calls.v2_grpc(model, IMAGE).message + data)):
                reply = await unary(through, path, message)
                assert (reply.code, reply.message == message) == ("OK", True), reply.details
                arrival = recorders[owner(model, NAMES)].arrivals[-1]
                assert (arrival.path, arrival.body == message) == (path, True)
                for name in ("x-tbms-named", "x-tbms-model", "content-length", "x-tbms-node"):
                    assert arrival.header(name) is None, "these nodes have no node role"
    assert await ways.asked() == before


async def test_a_name_in_the_header_is_known_as_well(ways: Ways, recorders: dict[str, Recorder]) -> None:
    before = await ways.asked()
    async with channel(ways.known.target) as through:
        for model in MODELS:
            # The header is what counts, as on the server's way.
            reply = await unary(through, PREDICT, spec(NAME), [("x-tbms-model", model)])
            assert (reply.code, reply.message) == ("OK", spec(NAME))
            assert recorders[owner(model, NAMES)].arrivals[-1].header("x-tbms-model") == model
    assert await ways.asked() == before


MESSAGES = {
    "known": spec(NAME),
    "not in the map": spec(b"\x0a\x05other"),
    "a version": spec(NAME, VERSION),
    "a label": spec(NAME, LABEL),
    "no spec": tensor(10),
    "empty": b"",
    "no name": spec(),
    "another spec behind it": spec(NAME) + spec(b"\x0a\x07model-1"),
    "the name twice": spec(NAME, b"\x0a\x07model-1"),
    "malformed": b"\xff\xff\xff\xff",
    "malformed behind the name": spec(NAME) + b"\xff\xff",
    "cut off": b"\x0a\x7f\x0a\x04acme",
    "quote": spec(b'\x0a\x03a"b'),
    "slash": spec(b"\x0a\x03a/b"),
    "dots": spec(b"\x0a\x02.."),
    "one dot": spec(b"\x0a\x01."),
    "control": spec(b"\x0a\x03a\nb"),
    "not UTF-8": spec(b"\x0a\x02\xff\xfe"),
    "percent": spec(b"\x0a\x05a%2Bb"),
    "too long": spec(b"\x0a\xac\x02" + b"n" * 300),
    "a signature that is no text": spec(NAME, b"\x1a\x01\xff"),
}


@pytest.mark.parametrize("headers", [(), (("tloc", "2000"),), (("tbms-key", "k"),)], ids=["plain", "tloc", "key"])
@pytest.mark.parametrize("message", MESSAGES)
async def test_both_ways_give_the_same_answers(ways: Ways, message: str, headers: tuple[tuple[str, str], ...]) -> None:
    replies = []
    for edge in (ways.known, ways.asking):
        async with channel(edge.target) as through:
            reply = await unary(through, PREDICT, MESSAGES[message], headers)
        replies.append((reply.code, reply.details, reply.message, reply.upstream))
    assert replies[0] == replies[1]


# A message that is cut off reaches the node either way, as it is, and this node's gRPC never answers it.
@pytest.mark.parametrize("case", sorted(OTHERS.keys() - {"cut off"}))
async def test_broken_frames_get_the_same_words(ways: Ways, case: str) -> None:
    path, body = OTHERS[case]
    replies = []
    for edge in (ways.known, ways.asking):
        async with rest_client(edge.http, http2=True) as client:
            reply = await client.post(path, content=pieces(body), headers=GRPC)
        words = [reply.headers.get(name) for name in ("content-type", "grpc-status", "grpc-message")]
        replies.append((reply.status_code, words, reply.content))
    assert replies[0] == replies[1]


async def test_no_body_at_all(ways: Ways) -> None:
    replies = []
    for edge in (ways.known, ways.asking):
        async with rest_client(edge.http, http2=True) as client:
            reply = await client.post(PREDICT, headers={**GRPC, "content-length": "0"})
        replies.append((reply.headers.get("grpc-status"), reply.headers.get("grpc-message")))
    assert replies[0] == replies[1]


async def test_nobody_makes_a_call_known(ways: Ways, recorders: dict[str, Recorder]) -> None:
    """Whatever the message says besides: a client's own copy of what Envoy writes is nothing."""
    model = next(model for model in MODELS if owner(model, NAMES) != owner("acme", NAMES))
    before = await ways.asked()
    async with channel(ways.known.target) as through:
        reply = await unary(through, PREDICT, spec(NAME, VERSION), [("x-tbms-named", model)])
        assert reply.code == "OK"
        assert recorders[owner("acme", NAMES)].arrivals[-1].body == spec(NAME, VERSION)
        reply = await unary(through, PREDICT, spec(NAME), [("x-tbms-named", model), ("grpc-encoding", "gzip")])
        assert reply.code == "OK"
        assert len(recorders[owner("acme", NAMES)].arrivals) == 2
    assert await ways.asked() == before + 2


async def test_with_the_server_dead_known_calls_go_on(ways: Ways) -> None:
    """The last of this module: it takes the server away and brings it back."""
    ways.known.server.kill()
    try:
        async with channel(ways.known.target) as through:
            for _ in range(20):
                reply = await unary(through, PREDICT, spec(NAME))
                assert reply.code == "OK", reply.details
    finally:
        await ways.known.server.stop()
        await ways.known.start_server()


@pytest.mark.parametrize("version", ["1.40", "1.38", "1.36"])
async def test_nodes_of_ours_are_told_the_model(
    version: str, recorders: dict[str, Recorder], tmp_path_factory: pytest.TempPathFactory
) -> None:
    need_envoy(version)
    seen = recorders["first"]
    assert seen.node.grpc is not None
    folder = tmp_path_factory.mktemp(f"told-{version}")
    file = folder / "map.pb"
    # A map as a server writes it whose node has the node role; this one has nothing to write.
    told = KnownModel("acme", int(Form.GRPC), {"grpc": ((PARTS, (seen.node.grpc,)),)}, tells=True)
    sections = {"known": {"file": str(file), "seconds": 3600.0}}
    async with Sidecar(folder, [seen.node], envoy=version, sections=sections) as edge, channel(edge.target) as through:
        replace_file(file, MapWriter(1).write([told], "told"))
        while (arrival := await arrived(through, seen)).header("x-tbms-model") is None:
            pass
    assert (arrival.body, arrival.header("x-tbms-model")) == (spec(NAME), "acme")
    assert arrival.header("x-tbms-named") is None


@pytest.mark.parametrize("version", ["1.40", "1.38", "1.36"])
async def test_the_map_may_change_while_a_call_waits_for_its_message(
    version: str, recorders: dict[str, Recorder], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The call then goes by the new one. (A filter that was made with the call would be one of the old map.)"""
    need_envoy(version)
    nodes = {name: seen.node for name, seen in recorders.items()}
    folder = tmp_path_factory.mktemp(f"waits-{version}")
    file = folder / "map.pb"
    # The server has nothing to write: no node says what it holds.
    sections = {"known": {"file": str(file), "seconds": 3600.0}}
    async with (
        Sidecar(folder, nodes.values(), envoy=version, sections=sections) as edge,
        channel(edge.target) as through,
    ):

        async def take(name: str) -> None:
            """Has Envoy send the model's calls to this node."""
            endpoint = nodes[name].grpc
            assert endpoint is not None
            acme = KnownModel("acme", int(Form.GRPC), {"grpc": ((PARTS, (endpoint,)),)}, tells=False)
            replace_file(file, MapWriter(1).write([acme], name))
            while True:
                before = await asked(edge)
                reply = await unary(through, PREDICT, spec(NAME))
                if await asked(edge) == before and reply.upstream == endpoint:
                    return

        for _ in range(5):
            await take("first")
            told = asyncio.Event()

            async def message(told: asyncio.Event = told) -> AsyncIterator[bytes]:
                await told.wait()
                yield spec(NAME)

            call = through.stream_unary(PREDICT)(message(), timeout=60)
            await _until_in_envoy(edge)
            await take("second")
            before = await asked(edge)
            told.set()
            assert await call == spec(NAME)
            assert await asked(edge) == before
            assert recorders["second"].arrivals[-1].body == spec(NAME)
            assert edge.envoy.running


async def _until_in_envoy(edge: Sidecar) -> None:
    """The head of a client's call has come, and its end has not."""
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"{edge.envoy_admin}/stats?filter=http.clients.downstream_rq_active"
        while not (await http.get(url)).text.endswith(": 1\n"):
            await asyncio.sleep(0.02)


async def arrived(through: grpc.aio.Channel, seen: Recorder) -> Arrival:
    reply = await unary(through, PREDICT, spec(NAME))
    assert reply.code == "OK", reply.details
    return seen.arrivals[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def real(
    request: pytest.FixtureRequest,
    nodes: dict[str, EmbeddedNode],
    names: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Ways]:
    """In front of model servers."""
    need_envoy(request.param)
    population = [replace(node.node, models=frozenset(names)) for node in nodes.values()]
    async with AsyncExitStack() as stack:
        found = await two_edges(stack, tmp_path_factory.mktemp(f"real-{request.param}"), population, request.param)
        await found.learn(("acme-svm", "birch-svm"))
        yield found


async def test_real_clients(real: Ways, nodes: dict[str, EmbeddedNode], tensorflow: TfClient) -> None:
    arrays = {"image": ("float32", IMAGE.tolist())}
    before = await real.asked()
    for model in ("acme-svm", "birch-svm"):
        for signature in (None, "serving_default"):
            reply = await tensorflow.predict(real.known.target, model, arrays, signature=signature)
            assert reply.code == 0, reply.details
            expected = await tensorflow.predict(real.asking.target, model, arrays, signature=signature)
            assert (reply.response, reply.arrays) == (expected.response, expected.arrays)
            assert ("x-tbms-upstream", nodes[owner(model, NODES)].node.grpc) in reply.initial
        tensor = triton.InferInput("image", [1, 64], "FP32")
        tensor.set_data_from_numpy(IMAGE)
        found = []
        for edge in (real.known, real.asking):
            async with triton.InferenceServerClient(edge.target) as client:
                found.append((await client.infer(model, [tensor])).get_response())
        assert found[0] == found[1]
    assert await real.asked() == before
    versioned = await tensorflow.predict(real.known.target, "acme-svm", arrays, version=1)
    assert versioned.code == 0, versioned.details
    assert await real.asked() == before + 1
