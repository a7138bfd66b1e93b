"""The server's own HTTP/2 with real Envoys: a constant reply, so that all that is tested is the conversation."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest
import pytest_asyncio

from ext_proc.envoy_config import EnvoySettings, render
from ext_proc.http2.aio.server import Http2Server
from ext_proc.http2.session import Session, Stream
from ext_proc.processing.request import head_of, parse, plain_head
from ext_proc.processing.response import continue_headers
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from tests.integration import raw
from tests.integration.conftest import need_envoy
from tests.integration.recorder import Recorder, recorder

pytestmark = pytest.mark.envoy

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
PREDICT = "/v1/models/m:predict"


class Place:
    """An Envoy in front of one node, and where its server is to listen."""

    def __init__(self, folder: Path, node: Recorder, ports: list[int]) -> None:
        self.listen, self.egress, self.admin = (f"127.0.0.1:{port}" for port in ports)
        self.server = f"unix:{folder}/ext_proc.sock"
        self.node = node
        self.calls = Counter[str]()
        self.told: list[bytes] = []

    def serve(self, name: str = "server") -> Http2Server:
        """A server that sends every call to the node, and counts what it is told."""

        class Constant:
            def __init__(this, stream: Stream) -> None:
                this.stream = stream
                self.calls[f"{name} opened"] += 1

            def message(this, data: bytes) -> None:
                self.calls[name] += 1
                self.told.append(data)
                this.stream.send(continue_headers((self.node.node.rest or "",)))

            def half_closed(this) -> None:
                this.stream.finish()
                self.calls[f"{name} ended"] += 1

            def gone(this) -> None:
                self.calls[f"{name} ended"] += 1

        def open_one(stream: Stream) -> Session:
            return Constant(stream)

        return Http2Server(self.server, {PROCESS: open_one})

    async def count(self, name: str) -> int:
        """A counter of Envoy's about its connections to the server."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://{self.admin}/stats?filter=tbms_ext_proc") as reply,
        ):
            text = await reply.text()
        found = re.search(rf"^cluster\.tbms_ext_proc\.{name}: (\d+)$", text, re.MULTILINE)
        assert found is not None, text
        return int(found[1])


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.36", "1.38", "1.40"])
async def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp("http2")
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(recorder("a"))
        here = Place(folder, node, free_ports(3))
        settings = EnvoySettings(
            listen=here.listen, egress=here.egress, admin=here.admin, upstream_header=True, server_wait_seconds=30.0
        )
        config = folder / "envoy.yaml"
        config.write_text(render(settings, version=request.param, server=here.server, nodes=[node.node]))
        command = [envoy_binary(request.param), "-c", config, "--concurrency", "1", "--disable-hot-restart"]
        envoy = Process("Envoy", [*command, "--log-level", "error"], folder / "envoy.log")
        stack.push_async_callback(envoy.stop)
        await envoy.start(answers(f"http://{here.admin}/ready"))
        yield here


async def post(client: object, count: int) -> Counter[int]:
    replies = await asyncio.gather(*(raw.rest(client, PREDICT, b"{}") for _ in range(count)))  # type: ignore[arg-type]
    return Counter(reply.status for reply in replies)


async def known(place: Place, client: object, name: str) -> None:
    """Returns once Envoy has noticed that the server listens; until then calls pass without it."""
    async with asyncio.timeout(60):
        while not place.calls[name]:
            assert await post(client, 1) == {200: 1}
            await asyncio.sleep(0.02)


@asynccontextmanager
async def served_by(place: Place, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose calls this server hears of. It stops at the end."""
    server = place.serve(name)
    await server.start()
    try:
        async with raw.rest_client(f"http://{place.listen}") as client:
            await known(place, client, name)
            yield client
    finally:
        await server.stop(5)


async def test_every_call_is_one_stream_of_one_connection(place: Place) -> None:
    async with served_by(place, "server") as client:
        before = place.calls.copy()
        for _ in range(5):
            assert await post(client, 60) == {200: 60}
            await asyncio.sleep(0.5)  # in all longer than Envoy waits for the answer to a PING
        assert await place.count("upstream_cx_total") == 1
        made = place.calls - before
        assert (made["server"], made["server opened"]) == (300, 300)
        async with asyncio.timeout(60):
            while place.calls["server ended"] != place.calls["server opened"]:
                await asyncio.sleep(0.01)
        assert await place.count("upstream_cx_protocol_error") == 0


async def test_what_envoy_says_of_a_plain_call_is_read_in_one_pass(place: Place) -> None:
    async with served_by(place, "reader") as client:
        place.told.clear()
        await raw.rest(client, PREDICT, b"{}", headers={"authorization": "b" * 5000, "x-empty": ""})
    [message] = place.told
    head, known_head = plain_head(message), head_of(parse(message))
    assert head is not None
    assert (head.headers, head.end_of_stream, head.mode) == (
        known_head.headers,
        known_head.end_of_stream,
        known_head.mode,
    )
    assert (head.headers[":path"], len(head.headers["authorization"])) == (PREDICT, 5000)


async def served(place: Place, name: str) -> None:
    async with asyncio.timeout(60):
        while place.calls[name] < 100:
            await asyncio.sleep(0.01)


async def test_the_server_changes_under_load_and_no_call_fails(place: Place) -> None:
    servers = [place.serve(name) for name in ("first", "second", "third")]
    await servers[0].start()
    seen: Counter[int] = Counter()
    stop = asyncio.Event()

    async def load() -> None:
        async with raw.rest_client(f"http://{place.listen}") as client:
            await known(place, client, "first")
            place.calls.clear()
            while not stop.is_set():
                seen.update(await post(client, 20))

    loading = asyncio.ensure_future(load())
    try:
        for old, new, names in zip(servers, servers[1:], (("first", "second"), ("second", "third")), strict=False):
            await served(place, names[0])
            await new.start()
            await old.stop(10)
            await served(place, names[1])
    finally:
        stop.set()
        await loading
        await servers[-1].stop(5)
    assert set(seen) == {200}
    assert sum(place.calls[name] for name in ("first", "second", "third")) == seen[200], (
        "every call was routed, none went past the server"
    )
