"""Peers that want everything for themselves, or are gone without a word, on real sockets."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import hpack
import pytest
import trustme
import uvloop

from ext_proc.http2.aio.connection_pool import ConnectionPool
from ext_proc.http2.aio.server import Http2Server
from ext_proc.http2.client_stream import Broken
from ext_proc.http2.frames import DATA, END_HEADERS, HEADERS, PREFACE, frame, settings_frame
from ext_proc.http2.limits import Limits
from ext_proc.http2.session import Stream
from tests.ext_proc.http2.peer import HEADERS as FIELDS
from tests.ext_proc.http2.peer import PATH, message
from tests.integration.http2.test_connection_pool import BLOCK as REQUEST
from tests.integration.http2.test_connection_pool import LIMIT

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]
BLOCK = hpack.Encoder().encode([(*field, True) for field in FIELDS])
GREETING = PREFACE + settings_frame({})
CALLS = 20_000
# A peer that is silent is asked at the first look, and gone at the next.
HASTY = Limits(silence_seconds=0.5, pong_seconds=0.5)


def run(loop: NewLoop, case: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(case)


def call(number: int, body: bytes) -> bytes:
    return frame(HEADERS, END_HEADERS, number, BLOCK) + frame(DATA, 0, number, message(body))


class Count:
    """Sessions that count their messages by what those begin with."""

    def __init__(self) -> None:
        self.of = {b"m": 0, b"f": 0}
        self.begun, self.gone = asyncio.Event(), asyncio.Event()

    def open(self, stream: Stream) -> "Counted":
        return Counted(self, stream)


class Counted:
    def __init__(self, count: Count, stream: Stream) -> None:
        self.count, self.stream = count, stream

    def message(self, data: bytes) -> None:
        self.count.of[data[:1]] += 1
        self.count.begun.set()
        if data[:1] == b"f":
            self.stream.send(b"%d" % self.count.of[b"m"])

    def half_closed(self) -> None: ...

    def gone(self) -> None:
        self.count.gone.set()


def pour(address: str, context: ssl.SSLContext | None) -> None:
    """Sends as many calls as fit, as fast as they are taken."""
    host, port = address.split(":")
    raw = socket.create_connection((host, int(port)))
    with raw if context is None else context.wrap_socket(raw) as connection:
        connection.sendall(GREETING)
        connection.sendall(b"".join(call(number, bytes(b"m" * 400)) for number in range(1, 2 * CALLS, 2)))
        while connection.recv(1 << 16):
            pass


@LOOPS
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_backlog_of_one_connection_starves_no_other(loop: NewLoop, tls: bool) -> None:
    async def case() -> None:
        authority, count = trustme.CA(), Count()
        ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(ours)
        theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
        server = Http2Server("127.0.0.1:0", {PATH: count.open}, ssl_context=ours if tls else None)
        await server.start()
        host, port = server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=theirs if tls else None)
        writer.write(GREETING)
        pouring = threading.Thread(target=pour, args=(server.address, theirs if tls else None), daemon=True)
        pouring.start()
        async with asyncio.timeout(100):
            await count.begun.wait()
            while count.of[b"f"] < 5:  # five calls, one after the other, beside the many
                before = count.of[b"f"]
                writer.write(call(2 * before + 1, b"few"))
                while count.of[b"f"] == before:
                    await asyncio.sleep(0)
            assert count.of[b"m"] < CALLS // 2
            while count.of[b"m"] < CALLS:
                await asyncio.sleep(0.01)
            assert await reader.read(1)
        writer.transport.abort()
        await server.stop(0.0)
        await asyncio.to_thread(pouring.join)

    run(loop, case())


@LOOPS
def test_a_server_lets_go_of_a_peer_that_is_gone_without_a_word(loop: NewLoop) -> None:
    async def case() -> None:
        count = Count()
        server = Http2Server("127.0.0.1:0", {PATH: count.open}, HASTY)
        await server.start()
        host, port = server.address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(GREETING + call(1, b"m"))  # and nothing after it: PINGs are not answered
        async with asyncio.timeout(60):
            await count.gone.wait()
        writer.transport.abort()
        await server.stop(0.0)

    run(loop, case())


@LOOPS
def test_a_pool_lets_go_of_a_peer_that_is_gone_without_a_word(loop: NewLoop) -> None:
    async def case() -> None:
        accepted: list[asyncio.StreamWriter] = []

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            writer.write(settings_frame({}))

        listening = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        async with ConnectionPool(f"127.0.0.1:{port}", HASTY) as pool:
            async with asyncio.timeout(60):
                for _ in range(2):
                    assert isinstance(await pool.request(REQUEST, (b"x",), LIMIT), Broken)
            assert len(accepted) == 2, "each on a connection of its own"
        listening.close()
        for writer in accepted:
            writer.transport.abort()

    run(loop, case())
