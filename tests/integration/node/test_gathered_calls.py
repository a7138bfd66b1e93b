"""What a node's Envoy gives its server of the calls that may be batched, on every Envoy: whole bodies, to answer.

The server is in the test's own process, with a policy that answers each call which it may with what it got of it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from ext_proc.batching.terms import NO_TERMS, Terms, read_terms
from ext_proc.contract import PROCESS_METHOD
from ext_proc.envoy_config import EnvoyLimits, EnvoySettings, GatheredCalls, render_node
from ext_proc.http2.aio.server import Http2Server
from ext_proc.processing.decision import Decision, Held, Hold, Pass, Respond, Route
from ext_proc.processing.request import Head, ReplyPart
from ext_proc.server.processor import ExtProcService
from ext_proc.telemetry.metrics import Metrics
from ext_proc.telemetry.refusals import Refusals
from ext_proc.wire.call import Call
from ext_proc.wire.framing import frame
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from tests.integration import calls, raw
from tests.integration.conftest import need_envoy
from tests.integration.node.cache_node import until
from tests.integration.recorder import Recorder, recorder

pytestmark = pytest.mark.envoy

PREDICT, INFER = "/v1/models/m:predict", "/v2/models/m/infer"
TOLD = "5000;race=r1;lag=7;share"
TERMS = Terms(5000, 7.0, True, race="r1")
BODY = bytes(range(256)) * 12_000  # 3 MB: more than Envoy keeps by default, in many chunks


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


class Gathering:
    """Holds a call that says something of batches, and answers it with the digest of its body; or spares it."""

    body_limit = 8 << 20
    follows_replies = True

    def __init__(self) -> None:
        self.spare = False
        self.held: list[Terms] = []
        self.seen = 0
        self.leases = 0

    def decide(self, head: Head, call: Call, now: float) -> Decision:
        self.seen += 1
        terms = read_terms(head.headers)
        answers_it = head.body_can_come and (head.streams_answers or not call.protocol.is_grpc)
        if (terms != NO_TERMS and answers_it) or call.model == "shares":
            self.held.append(terms)
            return Hold(collect=True)
        return self._passed()

    async def resolve(self, held: Held) -> Decision:
        if self.spare:
            return self._passed()
        if not held.call.protocol.is_grpc:
            return Respond(200, (("content-type", b"text/plain"),), digest(b"".join(held.chunks)))
        message = held.unpacked(self.body_limit).message or b""
        return Respond(200, (("content-type", b"application/grpc"),), frame(digest(message)), (("grpc-status", b"0"),))

    def replied(self, decision: Pass | Route, head: Head, call: Call, reply: ReplyPart, now: float) -> None:
        pass

    def release(self) -> None:
        self.leases -= 1

    def _passed(self) -> Pass:
        self.leases += 1
        return Pass(self)


class Place:
    """An Envoy before one model server, and where its own server is to listen."""

    def __init__(self, version: str, folder: Path, models: Recorder, ports: list[int]) -> None:
        self.version = version
        self.listen, self.egress, self.admin = (f"127.0.0.1:{port}" for port in ports)
        self.address = f"unix:{folder}/ext_proc.sock"
        self.models = models

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Gathering]:
        """For the length of the block the server is there, and its Envoy knows."""
        policy = Gathering()
        async with asyncio.TaskGroup() as tasks:
            loop = asyncio.get_running_loop()
            service = ExtProcService(policy, Metrics(), Refusals(), tasks, loop.time)
            server = Http2Server(self.address, {PROCESS_METHOD: service.open})
            await server.start()
            try:
                async with raw.rest_client(f"http://{self.listen}") as client:

                    async def known() -> bool:
                        await raw.rest(client, PREDICT, b"")
                        return policy.seen > 0

                    await until(known)
                policy.held.clear()
                self.models.arrivals.clear()
                yield policy
            finally:
                await server.stop(5)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.40", "1.38", "1.36"])
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp("gathered")
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(recorder("models"))
        here = Place(request.param, folder, models, free_ports(3))
        limits = EnvoyLimits(body_buffer_bytes=4 << 20)
        settings = EnvoySettings(listen=here.listen, egress=here.egress, admin=here.admin, limits=limits)
        config = folder / "envoy.yaml"
        config.write_text(
            render_node(
                settings,
                version=request.param,
                server=here.address,
                grpc=models.node.grpc or "",
                rest=models.node.rest or "",
                hold_seconds=30,
                gathered=GatheredCalls(("shares",)),
            )
        )
        command = [envoy_binary(request.param), "-c", config, "--concurrency", "1", "--disable-hot-restart"]
        envoy = Process("Envoy", [*command, "--log-level", "error"], folder / "envoy.log")
        stack.push_async_callback(envoy.stop)
        await envoy.start(answers(f"http://{here.admin}/ready"))
        yield here


@pytest.fixture(autouse=True)
def forget(place: Place) -> Iterator[None]:
    yield
    place.models.arrivals.clear()


def unsteered(place: Place) -> bool:
    """Whether nothing that steers has reached the model server."""
    names = {name.lower() for arrival in place.models.arrivals for name, _ in arrival.headers}
    return not {"x-tbms-call", "x-tbms-hop", "x-tbms-node", "x-tbms-residency"} & names


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("path", [PREDICT, INFER])
async def test_a_rest_call_comes_whole_and_is_answered(place: Place, path: str, http2: bool) -> None:
    async with place.served() as server, raw.rest_client(f"http://{place.listen}", http2=http2) as client:
        for body in (b"{}", BODY):
            for headers in ({"x-tbms-call": TOLD}, {"tloc": "5000;cross-request=1;cross-lag=7"}):
                reply = await raw.rest(client, path, body, headers)
                assert (reply.status, reply.body) == (200, digest(body))
        assert server.held == [TERMS, Terms(5000, 7.0, True)] * 2
        always = path.replace("/m:", "/shares:").replace("/m/", "/shares/")
        assert (await raw.rest(client, always, BODY)).body == digest(BODY)
        assert place.models.arrivals == []


async def test_a_body_larger_than_the_buffer_comes_where_it_is_streamed(place: Place) -> None:
    async with place.served(), raw.rest_client(f"http://{place.listen}") as client:
        reply = await raw.rest(client, PREDICT, 2 * BODY, {"x-tbms-call": TOLD})
        if place.version == "1.36":
            assert (reply.status, place.models.arrivals) == (413, [])
        else:
            assert reply.body == digest(2 * BODY)
        assert (await raw.rest(client, PREDICT, 2 * BODY)).body == 2 * BODY, "what is not gathered has no such limit"


@pytest.mark.parametrize("method", [calls.TFS_PREDICT, calls.V2_INFER])
async def test_a_grpc_call_comes_whole_where_it_can_be_answered(place: Place, method: str) -> None:
    async with place.served() as server, raw.channel(place.listen) as channel:
        named = [("x-tbms-model", "m"), ("x-tbms-call", TOLD)]
        reply = await raw.unary(channel, method, BODY, named)
        assert reply.code == "OK", reply.details
        if place.version == "1.36":  # which takes no answer with trailers: the call goes on, unread
            assert (reply.message, server.held) == (BODY, [])
            assert unsteered(place)
        else:
            assert (reply.message, server.held[0].race) == (digest(BODY), "r1")
            assert place.models.arrivals == []


@pytest.mark.parametrize("over", ["rest", "grpc"])
async def test_a_call_that_is_let_go_after_all_arrives_as_it_was_and_is_followed_to_its_end(
    place: Place, over: str
) -> None:
    async with place.served() as server:
        server.spare = True
        if over == "rest":
            async with raw.rest_client(f"http://{place.listen}") as client:
                assert (await raw.rest(client, INFER, BODY, {"x-tbms-call": TOLD})).body == BODY
        else:
            async with raw.channel(place.listen) as channel:
                named = [("x-tbms-model", "m"), ("x-tbms-call", TOLD)]
                assert (await raw.unary(channel, calls.V2_INFER, BODY, named)).message == BODY

        async def over_for_us() -> bool:
            return server.leases == 0

        await until(over_for_us)
        assert len(place.models.arrivals) == 1
        assert unsteered(place)


async def test_calls_that_nobody_wants_batched_are_decided_by_their_headers(place: Place) -> None:
    async with place.served() as server, raw.rest_client(f"http://{place.listen}") as client:
        assert (await raw.rest(client, PREDICT, BODY)).body == BODY
        assert server.held == []


async def test_without_the_server_only_the_newest_envoy_lets_them_pass(place: Place) -> None:
    async with raw.rest_client(f"http://{place.listen}") as client, raw.channel(place.listen) as channel:
        assert (await raw.rest(client, PREDICT, b"{}")).status == 200
        reply = await raw.rest(client, PREDICT, b"{}", {"x-tbms-call": TOLD, "x-tbms-residency": "?1"})
        assert reply.status == (200 if place.version == "1.40" else 503)
        named = [("x-tbms-model", "m"), ("x-tbms-call", TOLD)]
        grpc_reply = await raw.unary(channel, calls.V2_INFER, b"x", named)
        assert grpc_reply.code == ("UNAVAILABLE" if place.version == "1.38" else "OK")
        if place.version != "1.40":  # an edge's Envoy asks another node
            assert reply.headers["x-tbms-elsewhere"] == "1"
    assert unsteered(place)


async def test_batches_go_to_the_model_server_and_ask_nobody(place: Place) -> None:
    steering = {"x-tbms-call": TOLD, "x-tbms-hop": "s", "x-tbms-residency": "?1", "x-tbms-node": "n"}
    async with place.served() as server, raw.rest_client(f"http://{place.egress}", http2=True) as client:
        asked = server.seen
        assert (await raw.rest(client, INFER, BODY, steering)).body == BODY
        async with raw.channel(place.egress) as channel:
            reply = await raw.unary(channel, calls.V2_INFER, BODY, list(steering.items()))
        assert reply.message == BODY
        assert server.seen == asked
    assert [arrival.path for arrival in place.models.arrivals] == [INFER, calls.V2_INFER]
    assert unsteered(place)
