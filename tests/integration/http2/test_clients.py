"""The server's own HTTP/2 with the real clients of gRPC: the C core's, blocking and with asyncio, over real sockets."""

import asyncio
import contextlib
import json
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ext_proc.config import ServerSettings, TlsSettings
from ext_proc.errors import TbmsError
from ext_proc.http2.limits import Limits
from ext_proc.http2.session import Stream
from ext_proc.process.grpc_server import GrpcServer

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for every test
]
MiB = 1 << 20
Serving = health_pb2.HealthCheckResponse


class Echo:
    """Answers each message with itself."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def message(self, data: bytes) -> None:
        self.stream.send(data)

    def half_closed(self) -> None:
        self.stream.finish()

    def gone(self) -> None:
        pass


class Held(Echo):
    """Answers nothing by itself. A test finds the sessions in `all`."""

    all: "list[Held]" = []  # noqa: RUF012

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.was_told = asyncio.Event()
        self.is_gone = asyncio.Event()
        self.all.append(self)

    def message(self, data: bytes) -> None:
        self.was_told.set()

    def half_closed(self) -> None:
        pass

    def gone(self) -> None:
        self.is_gone.set()


class Refused(Echo):
    def message(self, data: bytes) -> None:
        self.stream.finish(int(data), "as asked: 100% ümläut")


SESSIONS = {"/t.T/Echo": Echo, "/t.T/Held": Held, "/t.T/Refused": Refused}


@contextlib.asynccontextmanager
async def serving(
    listen: str, tls: TlsSettings | None = None, limits: Limits | None = None
) -> AsyncIterator[GrpcServer]:
    Held.all.clear()
    server = GrpcServer(ServerSettings(listen=listen, tls=tls), SESSIONS, limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield channel


@contextlib.asynccontextmanager
async def both(folder: Path) -> AsyncIterator[grpc.aio.Channel]:
    address = f"unix:{folder}/s.sock"
    async with serving(address), connected(address) as channel:
        yield channel


async def held() -> Held:
    async with asyncio.timeout(60):
        while not Held.all:
            await asyncio.sleep(0.005)
        await Held.all[0].was_told.wait()
    return Held.all[0]


@pytest.mark.parametrize("size", [0, 1, 1024, 4 * MiB, 64 * MiB])
async def test_a_message_comes_back_as_it_was(tmp_path: Path, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with both(tmp_path) as channel:
        assert await channel.unary_unary("/t.T/Echo")(body, timeout=60) == body


async def test_a_body_of_64_mib_is_piped_in_chunks_both_ways(tmp_path: Path) -> None:
    chunks = [bytes([index]) * 65_536 for index in range(256)] * 4
    async with both(tmp_path) as channel:
        call = channel.stream_stream("/t.T/Echo")(iter(chunks), timeout=60)
        assert [chunk async for chunk in call] == chunks
        assert await call.code() == grpc.StatusCode.OK


async def test_a_peer_that_reads_nothing_is_sent_a_bounded_amount(tmp_path: Path) -> None:
    """And goes on where it stopped, once it reads."""
    async with both(tmp_path) as channel:
        call = channel.stream_stream("/t.T/Echo")(timeout=60)
        sent = 0

        async def feed() -> None:
            nonlocal sent
            while sent < 256:
                await call.write(bytes(MiB))
                sent += 1
            await call.done_writing()

        feeding = asyncio.ensure_future(feed())
        before = -1
        while sent != before:  # until the windows are full
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 64
        received = 0
        async for message in call:
            received += len(message)
        await feeding
        assert received == 256 * MiB


async def test_a_thousand_streams_at_once_on_one_connection(tmp_path: Path) -> None:
    async with both(tmp_path) as channel:
        method = channel.stream_stream("/t.T/Echo")
        calls = [method(timeout=60) for _ in range(1000)]
        for index, call in enumerate(calls):
            await call.write(b"%d" % index)
        answers = [await call.read() for call in calls]
        assert answers == [b"%d" % index for index in range(1000)]
        for call in calls:
            await call.done_writing()
        assert {await call.code() for call in calls} == {grpc.StatusCode.OK}


async def test_a_status_and_its_words_arrive(tmp_path: Path) -> None:
    async with both(tmp_path) as channel:
        for number in (1, 5, 16):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/t.T/Refused")(b"%d" % number)
            assert caught.value.code().value[0] == number
            assert caught.value.details() == "as asked: 100% ümläut"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Nothing")(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_compressed_messages_are_unimplemented(tmp_path: Path) -> None:
    async with both(tmp_path) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Echo")(bytes(1000), compression=grpc.Compression.Gzip)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "gzip" in (caught.value.details() or "")


async def test_a_deadline_and_a_cancellation_reach_the_session(tmp_path: Path) -> None:
    async with both(tmp_path) as channel:
        assert await channel.unary_unary("/t.T/Echo")(b"there") == b"there"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Held")(b"x", timeout=1.0)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(60):
            await (await held()).is_gone.wait()
        Held.all.clear()
        call = channel.stream_stream("/t.T/Held")()
        await call.write(b"x")
        session = await held()
        call.cancel()
        async with asyncio.timeout(60):
            await session.is_gone.wait()
        assert await channel.unary_unary("/t.T/Echo")(b"still there") == b"still there"


async def test_a_client_that_goes_away_is_noticed(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/s.sock") as server:
        async with connected(server.address) as channel:
            call = channel.stream_stream("/t.T/Held")()
            await call.write(b"x")
            session = await held()
        async with asyncio.timeout(60):
            await session.is_gone.wait()


async def test_the_blocking_client_is_served_too() -> None:
    def talk(address: str) -> list[bytes]:
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            once: Any = channel.unary_unary("/t.T/Echo")
            stream: Any = channel.stream_stream("/t.T/Echo")
            answers = [once(b"%d" % index, timeout=30) for index in range(50)]
            return answers + list(stream(iter([b"a", b"b", bytes(MiB)]), timeout=30))

    async with serving("127.0.0.1:0") as server:
        answers = await asyncio.to_thread(talk, server.address)
    assert answers == [*(b"%d" % index for index in range(50)), b"a", b"b", bytes(MiB)]


async def test_health_says_serving_and_at_a_stop_not_serving(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/s.sock") as server, connected(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "t.T"):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == Serving.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="no.Such"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="t.T"))
        assert (await watch.read()).status == Serving.SERVING
        stopping = asyncio.ensure_future(server.stop(10))
        assert (await watch.read()).status == Serving.NOT_SERVING
        await stopping


async def test_a_stop_waits_for_calls_in_flight_and_takes_no_new_ones(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/s.sock") as server, connected(server.address) as channel:
        call = channel.unary_unary("/t.T/Held")(b"x")
        session = await held()
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0.2)
        assert not stopping.done()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Echo")(b"late")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        session.stream.send(b"in time")
        session.stream.finish()
        assert await call == b"in time"
        async with asyncio.timeout(60):
            await stopping


async def test_a_call_that_outlasts_the_grace_is_unavailable(tmp_path: Path) -> None:
    async with serving(f"unix:{tmp_path}/s.sock") as server, connected(server.address) as channel:
        call = channel.unary_unary("/t.T/Held")(b"x")
        session = await held()
        await server.stop(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert session.is_gone.is_set()


async def test_the_next_server_takes_the_socket_over_and_the_old_one_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.sock"
    async with serving(f"unix:{path}") as old, connected(old.address) as early:
        assert await early.unary_unary("/t.T/Echo")(b"old") == b"old"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        call = early.unary_unary("/t.T/Held")(b"x")
        session = await held()
        new = GrpcServer(ServerSettings(listen=f"unix:{path}"), SESSIONS)
        await new.start()
        inode = path.stat().st_ino
        stopping = asyncio.ensure_future(old.stop(30))
        async with connected(new.address) as late:
            assert await late.unary_unary("/t.T/Echo")(b"new") == b"new"
            session.stream.send(b"drained")
            session.stream.finish()
            assert await call == b"drained"
            await stopping
            assert path.stat().st_ino == inode
            assert list(path.parent.iterdir()) == [path], "no private name is left"
        async with connected(new.address) as later:
            assert await later.unary_unary("/t.T/Echo")(b"still") == b"still"
        await new.stop(0)


async def test_two_servers_share_a_port() -> None:
    async with serving("127.0.0.1:0") as one, serving(one.address) as two:
        assert one.address == two.address


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_without_descriptors_connections_wait_and_one_line_says_so(loop: str) -> None:
    command = [sys.executable, "-m", "tests.integration.http2.out_of_descriptors", loop]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, log = await process.communicate()
    assert process.returncode == 0, log
    seen = json.loads(out)
    assert (seen["waited"], seen["after"]) == (True, True)
    assert min(seen["served"], seen["failures"]) >= 1
    assert log.decode().splitlines() == ["ext_proc.http2.aio.listener: connections cannot be accepted, they wait"]


async def test_an_address_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for listen in ("192.0.2.1:1", f"unix:{tmp_path}/file/s.sock"):
        with pytest.raises(TbmsError, match=r"server\.listen: cannot listen on"):
            await GrpcServer(ServerSettings(listen=listen), SESSIONS).start()


async def test_mtls_lets_in_who_shows_a_certificate_of_the_authority(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    files = _files(ours, tmp_path)
    async with serving("127.0.0.1:0", files) as server:
        for authority, welcome in ((ours, True), (theirs, False), (None, False)):
            async with grpc.aio.secure_channel(server.address, _credentials(ours, authority), OPTIONS) as channel:
                call = channel.unary_unary("/t.T/Echo")(bytes(4 * MiB), timeout=20, wait_for_ready=False)
                if welcome:
                    assert await call == bytes(4 * MiB)
                    continue
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "case",
    [
        test_a_body_of_64_mib_is_piped_in_chunks_both_ways,
        test_a_peer_that_reads_nothing_is_sent_a_bounded_amount,
        test_a_thousand_streams_at_once_on_one_connection,
        test_a_client_that_goes_away_is_noticed,
        test_a_call_that_outlasts_the_grace_is_unavailable,
        test_the_next_server_takes_the_socket_over_and_the_old_one_leaves_it,
        test_mtls_lets_in_who_shows_a_certificate_of_the_authority,
    ],
)
def test_under_uvloop(case: Callable[[Path], Coroutine[Any, Any, None]], tmp_path: Path) -> None:
    """What the program runs on; its transports are not asyncio's own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(case(tmp_path))


def _files(authority: trustme.CA, folder: Path) -> TlsSettings:
    certificate = authority.issue_cert("127.0.0.1")
    files = TlsSettings(certificate=folder / "crt", key=folder / "key", client_ca=folder / "ca")
    certificate.cert_chain_pems[0].write_to_path(files.certificate)
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.client_ca)
    return files


def _credentials(server: trustme.CA, client: trustme.CA | None) -> grpc.ChannelCredentials:
    if client is None:
        return grpc.ssl_channel_credentials(server.cert_pem.bytes())
    own = client.issue_cert("client.test")
    return grpc.ssl_channel_credentials(
        server.cert_pem.bytes(), own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    )
