"""The pool of our own HTTP/2 client against a server of the `h2` package on a real socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import h2.config
import h2.connection
import h2.events
import pytest
import uvloop
from h2.settings import SettingCodes

from ext_proc.http2.aio import connection_pool
from ext_proc.http2.aio.connection_pool import ConnectionPool
from ext_proc.http2.aio.server import Http2Server
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.hpack_literals import literal
from ext_proc.http2.session import Stream

_FIELDS = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"models"))
BLOCK = b"".join(literal(name, value) for name, value in _FIELDS)
LIMIT = 1 << 20


class Server:
    """Does with each request what `script` says; remembers its connections and the resets of the peer."""

    def __init__(self, script: Callable[["Session", int], None], streams: int) -> None:
        self.script = script
        self.streams = streams
        self.sessions: list[Session] = []
        self.resets = asyncio.Queue[int]()
        self.asked = asyncio.Queue[int]()


class Session(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.number = len(server.sessions)
        self.transport: asyncio.Transport | None = None
        server.sessions.append(self)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none of asyncio's classes
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self.server.streams})
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                self.server.asked.put_nowait(event.stream_id)
                self.server.script(self, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.server.resets.put_nowait(event.stream_id)
        self.flush()

    def answer(self, stream: int) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("x-connection", str(self.number))], end_stream=True)

    def flush(self) -> None:
        assert self.transport is not None
        self.transport.write(self.h2.data_to_send())


@asynccontextmanager
async def serving(
    script: Callable[[Session, int], None], address: str = "127.0.0.1:0", streams: int = 100
) -> AsyncIterator[tuple[Server, ConnectionPool]]:
    loop = asyncio.get_running_loop()
    server = Server(script, streams)
    if address.startswith("unix:"):
        listening = await loop.create_unix_server(lambda: Session(server), address.removeprefix("unix:"))
    else:
        listening = await loop.create_server(lambda: Session(server), "127.0.0.1", 0)
        address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        async with ConnectionPool(address) as pool:
            yield server, pool
    finally:
        for _ in range(10):  # whoever was accepted, and then given up, is closed on this side too
            await asyncio.sleep(0)
        listening.close()
        for session in server.sessions:
            if session.transport is not None:
                session.transport.abort()


def connection(outcome: HttpResponse | Broken) -> str:
    assert isinstance(outcome, HttpResponse), outcome
    return dict(outcome.headers)["x-connection"].decode()


@pytest.mark.parametrize("socket", [False, True])
async def test_calls_share_one_connection(tmp_path: Path, socket: bool) -> None:
    async with serving(Session.answer, f"unix:{tmp_path}/egress" if socket else "") as (server, pool):
        outcomes = await asyncio.gather(*(pool.request(BLOCK, (b"x",), LIMIT) for _ in range(20)))
        assert {connection(outcome) for outcome in outcomes} == {"0"}
        assert len(server.sessions) == 1


async def test_more_connections_are_made_where_one_is_full() -> None:
    held: list[tuple[Session, int]] = []

    def hold(session: Session, stream: int) -> None:
        held.append((session, stream))

    async with serving(hold, streams=2) as (server, pool), asyncio.TaskGroup() as group:
        calls = []
        for number in range(5):
            calls.append(group.create_task(pool.request(BLOCK, (), LIMIT)))
            await server.asked.get()
            assert len(held) == number + 1
        for session, stream in held:
            session.answer(stream)
            session.flush()
        answered = [connection(await call) for call in calls]
        assert sorted(answered) == ["0", "0", "1", "1", "2"]


async def test_a_call_on_a_connection_that_was_going_away_is_sent_on_the_next() -> None:
    def script(session: Session, stream: int) -> None:
        if session.number == 0:
            session.h2.close_connection(last_stream_id=0)
        else:
            session.answer(stream)

    async with serving(script) as (_, pool):
        assert connection(await pool.request(BLOCK, (b"x",), LIMIT)) == "1"


async def test_a_call_that_is_always_refused_is_not_sent_for_ever() -> None:
    def refuse(session: Session, stream: int) -> None:
        session.h2.reset_stream(stream, 7)

    async with serving(refuse) as (server, pool):
        outcome = await pool.request(BLOCK, (b"x",), LIMIT)
        assert outcome == Broken("the stream was reset: REFUSED_STREAM", unprocessed=True)
        assert server.asked.qsize() == 3


async def test_a_call_that_was_cut_off_is_not_sent_again() -> None:
    def cut(session: Session, stream: int) -> None:
        assert session.transport is not None
        session.transport.abort()

    async with serving(cut) as (server, pool):
        assert await pool.request(BLOCK, (b"x",), LIMIT) == Broken("the stream was reset: CANCEL")
        assert server.asked.qsize() == 1


async def test_a_call_that_is_cancelled_is_reset_on_the_wire() -> None:
    async with serving(lambda session, stream: None) as (server, pool):
        call = asyncio.create_task(pool.request(BLOCK, (b"x",), LIMIT))
        stream = await server.asked.get()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await server.resets.get() == stream


async def test_whoever_stops_waiting_for_a_connection_does_not_stop_the_others() -> None:
    async with serving(Session.answer) as (server, pool):
        first, second = (asyncio.create_task(pool.request(BLOCK, (), LIMIT)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert connection(await second) == "0"
        with suppress(asyncio.CancelledError):
            await first
        assert first.cancelled()
        assert len(server.sessions) == 1


async def test_where_nobody_listens_the_error_says_so_and_the_next_call_tries_again(tmp_path: Path) -> None:
    path = tmp_path / "egress"
    async with ConnectionPool(f"unix:{path}") as pool:
        with pytest.raises(OSError, match=r"egress|No such file"):
            await pool.request(BLOCK, (), LIMIT)
        server = Server(Session.answer, 100)
        listening = await asyncio.get_running_loop().create_unix_server(lambda: Session(server), path)
        try:
            assert connection(await pool.request(BLOCK, (), LIMIT)) == "0"
        finally:
            listening.close()


async def test_the_end_of_the_pool_is_told_to_calls_and_to_the_peer() -> None:
    async with serving(lambda session, stream: None) as (server, pool):
        call = asyncio.create_task(pool.request(BLOCK, (), LIMIT))
        await server.asked.get()
    assert isinstance(await call, Broken)


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]
# More turns of the loop than a dial takes.
TURNS = range(12)


def run(loop: NewLoop, case: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(case)


class Answering:
    """A session of a server of our own that answers at once."""

    def __init__(self, stream: Stream) -> None:
        stream.finish()

    def message(self, data: bytes) -> None: ...

    def half_closed(self) -> None: ...

    def gone(self) -> None: ...


@LOOPS
def test_a_loop_that_is_busy_while_ten_thousand_calls_come_fails_none_of_them(loop: NewLoop, tmp_path: Path) -> None:
    """Each turn of the dial is longer than all the time that the peer has."""

    async def case() -> None:
        block = BLOCK + literal(b"content-type", b"application/grpc")
        server = Http2Server(f"unix:{tmp_path}/egress", {"/": Answering})
        await server.start()

        def work(turns: int) -> None:
            time.sleep(0.02)
            if turns:
                running.call_soon(work, turns - 1)

        running = asyncio.get_running_loop()
        async with ConnectionPool(server.address, connect_seconds=0.01) as pool:
            calls = [asyncio.ensure_future(pool.request(block, (b"x",), LIMIT)) for _ in range(10_000)]
            running.call_soon(work, 10)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {HttpResponse}
            assert pool.reachable
        await server.stop(0)

    run(loop, case())


@asynccontextmanager
async def _after(turns: int) -> AsyncIterator[None]:
    """A time-out in that turn of the loop."""
    loop = asyncio.get_running_loop()

    def turn(left: int) -> None:
        if left:
            handles[:] = [loop.call_soon(turn, left - 1)]
        else:
            timeout.reschedule(0.0)

    async with asyncio.timeout(None) as timeout:
        handles = [loop.call_soon(turn, turns)]
        try:
            yield
        finally:
            handles[0].cancel()


@LOOPS
@pytest.mark.parametrize("turns", TURNS)
def test_a_dial_that_times_out_in_any_turn_leaves_no_dead_connection(
    loop: NewLoop, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case() -> None:
        async with serving(Session.answer) as (_, pool):
            with monkeypatch.context() as patch:
                patch.setattr(connection_pool, "patience", lambda _: _after(turns))
                first = await asyncio.gather(pool.request(BLOCK, (), LIMIT), return_exceptions=True)
            assert isinstance(first[0], HttpResponse | OSError)
            assert pool.reachable is isinstance(first[0], HttpResponse)
            for _ in range(3):
                assert isinstance(await pool.request(BLOCK, (), LIMIT), HttpResponse)

    run(loop, case())


@LOOPS
@pytest.mark.parametrize("turns", TURNS)
def test_a_pool_that_ends_in_any_turn_of_a_dial_tells_those_who_wait(loop: NewLoop, turns: int) -> None:
    async def case() -> None:
        async with serving(Session.answer) as (_, pool):
            calls = [asyncio.ensure_future(pool.request(BLOCK, (), LIMIT)) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, HttpResponse | Broken | OSError), outcome

    run(loop, case())


@LOOPS
@pytest.mark.parametrize("turns", TURNS)
def test_a_call_that_is_cancelled_in_any_turn_leaves_the_others_and_the_pool_whole(loop: NewLoop, turns: int) -> None:
    async def case() -> None:
        async with serving(Session.answer) as (_, pool):
            first, second = (asyncio.ensure_future(pool.request(BLOCK, (), LIMIT)) for _ in range(2))
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            assert connection(await second) == "0"
            await asyncio.wait([first])
            assert connection(await pool.request(BLOCK, (), LIMIT)) == "0"

    run(loop, case())


async def test_a_peer_that_closes_at_once_is_no_peer() -> None:
    async with serving(Session.answer) as (_, pool):

        async def closed(protocol: asyncio.BaseProtocol) -> None:
            protocol.connection_lost(None)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "_connect", closed)
            with pytest.raises(OSError, match="closed the connection at once"):
                await pool.request(BLOCK, (), LIMIT)
        assert pool.reachable is False
        assert connection(await pool.request(BLOCK, (), LIMIT)) == "0"
        assert pool.reachable
