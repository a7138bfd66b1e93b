"""An Envoy without its server: what passes, what does not, and that nodes change without a restart."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ext_proc.envoy_config import EnvoySettings, render, render_endpoints
from integration.stack.envoys import envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from mesh.node import Node
from tests.integration import raw
from tests.integration.calls import TFS_PREDICT, TFS_RELOAD, V2_SERVER_LIVE
from tests.integration.conftest import need_envoy
from tests.integration.recorder import Recorder, recorder

pytestmark = pytest.mark.envoy

NO_ANSWER = "the model routing server did not answer"
PREDICT = "/v1/models/m:predict"


@dataclass
class Alone:
    """The Envoy, two nodes that can be written to its endpoint files, and the folder of these."""

    target: str
    recorders: tuple[Recorder, Recorder]
    folder: Path

    def use(self, *recorders: Recorder) -> None:
        write(self.folder, [each.node for each in recorders])

    def arrived(self) -> int:
        return sum(len(each.arrivals) for each in self.recorders)


def write(folder: Path, nodes: Sequence[Node]) -> None:
    for name, text in render_endpoints(nodes).items():
        unfinished = folder / f"{name}.new"
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, folder / name)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["1.36", "1.38", "1.40"])
async def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Alone]:
    need_envoy(request.param)
    folder = tmp_path_factory.mktemp("alone")
    listen, egress, admin = (f"127.0.0.1:{port}" for port in free_ports(3))
    settings = EnvoySettings(
        listen=listen, egress=egress, admin=admin, upstream_header=True, endpoints_dir=str(folder / "endpoints")
    )
    (folder / "endpoints").mkdir()
    config = folder / "envoy.yaml"
    config.write_text(render(settings, version=request.param, server=f"unix:{folder}/nobody.sock", nodes=()))
    async with AsyncExitStack() as stack:
        recorders = (await stack.enter_async_context(recorder("a")), await stack.enter_async_context(recorder("b")))
        here = Alone(listen, recorders, folder / "endpoints")
        here.use(recorders[0])
        command = [envoy_binary(request.param), "-c", config, "--concurrency", "1", "--disable-hot-restart"]
        envoy = Process("Envoy", [*command, "--log-level", "error"], folder / "envoy.log")
        stack.push_async_callback(envoy.stop)
        await envoy.start(answers(f"http://{admin}/ready"))
        yield here


async def test_plain_calls_pass_to_a_healthy_node(alone: Alone) -> None:
    async with raw.rest_client(f"http://{alone.target}") as client:
        reply = await raw.rest(client, PREDICT, b"{}")
    assert (reply.status, reply.body, reply.upstream) == (200, b"{}", alone.recorders[0].node.rest)
    async with raw.channel(alone.target) as channel:
        named = await raw.unary(channel, TFS_PREDICT, b"x", [("x-tbms-model", "m")])
        other = await raw.unary(channel, V2_SERVER_LIVE, b"")
    assert (named.code, named.message, other.code) == ("OK", b"x", "OK")


async def test_calls_that_need_the_server_are_unavailable_in_the_words_of_their_protocol(alone: Alone) -> None:
    before = alone.arrived()
    async with raw.rest_client(f"http://{alone.target}") as client:
        for path, headers in ((PREDICT, {"tloc": "50"}), ("/v2/repository/models/m/unload", {})):
            reply = await raw.rest(client, path, b"{}", headers)
            assert (reply.status, reply.body) == (503, b'{"error":"%s"}\n' % NO_ANSWER.encode())
            assert reply.headers["content-type"] == "application/json"
    async with raw.channel(alone.target) as channel:
        for method in (TFS_PREDICT, TFS_RELOAD):
            grpc_reply = await raw.unary(channel, method, b"")
            assert (grpc_reply.code, grpc_reply.details) == ("UNAVAILABLE", NO_ANSWER)
    assert alone.arrived() == before


async def test_headers_that_steer_never_arrive_and_all_else_does(alone: Alone) -> None:
    path = "/v1/models//a%2Fb/../m:predict?x=%20y"
    forged = {"x-tbms-node": "node-z", "X-Tbms-Hop": "guess", "x-envoy-retry-on": "5xx"}
    kept = {"x-forwarded-for": "192.0.2.1", "x-request-id": "mine", "tbms-key": "user-17", "X-Odd_Name": " ä ".strip()}
    reader, writer = await asyncio.open_connection(*alone.target.rsplit(":", 1))
    lines = [f"{name}: {value}" for name, value in {**forged, **kept}.items()]
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: models", "Content-Length: 2", "Connection: close", *lines])
    writer.write(f"{head}\r\n\r\n{{}}".encode("latin-1"))
    status = await reader.readline()
    await reader.read()
    writer.close()
    assert status.startswith(b"HTTP/1.1 200 ")
    arrival = alone.recorders[0].arrivals[-1]
    assert (arrival.path, arrival.body) == (path, b"{}")
    assert [name for name in forged if arrival.header(name.lower()) is not None] == []
    assert arrival.header("tbms-key") == "user-17"
    assert (arrival.header("x-forwarded-for"), arrival.header("x-request-id")) == ("192.0.2.1", "mine")
    assert "X-Odd_Name" in dict(arrival.headers), "the spelling of names is the client's"
    envoys = {name.lower() for name, _ in arrival.headers if name.lower().startswith("x-envoy")}
    assert envoys == {"x-envoy-attempt-count"}


async def test_a_node_written_to_the_files_is_used_without_a_restart(alone: Alone) -> None:
    first, second = alone.recorders
    async with raw.rest_client(f"http://{alone.target}") as client:

        async def becomes(upstream: str | None, status: int) -> bool:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                reply = await raw.rest(client, PREDICT, b"{}")
                if (reply.upstream, reply.status) == (upstream, status):
                    return True
                await asyncio.sleep(0.02)
            return False

        try:
            alone.use(second)
            assert await becomes(second.node.rest, 200)
            alone.use()
            assert await becomes(None, 503)
            reply = await raw.rest(client, PREDICT, b"{}")
            assert reply.body == b'{"error":"no healthy upstream"}\n'
        finally:
            alone.use(first)
        assert await becomes(first.node.rest, 200)
