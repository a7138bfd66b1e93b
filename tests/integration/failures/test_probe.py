"""The probe of a node, over real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mesh.health.probe import EndpointProbe
from mesh.health.state import ProbeSettings
from mesh.node import Node

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Listens on a free port and answers each connection that way; gives `ip:port`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        listening.close()
        await listening.wait_closed()


async def accept(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Takes the connection, and that is all."""


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Never answers, and leaves when the other side does."""
    await reader.read()


def saying(reply: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1:")
        writer.write(reply)
        await writer.drain()

    return answer


def free_endpoint() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


BY_PATH = EndpointProbe(ProbeSettings(path="/v2/health/ready", timeout=5.0))
BY_CONNECTING = EndpointProbe(ProbeSettings(timeout=5.0))


async def test_a_node_whose_endpoints_all_accept_is_well() -> None:
    async with server(accept) as grpc, server(accept) as rest:
        assert await BY_CONNECTING(Node("a", grpc, rest)) is None


async def test_one_endpoint_that_refuses_is_named() -> None:
    closed = free_endpoint()
    async with server(accept) as grpc:
        failure = await BY_CONNECTING(Node("a", grpc, closed))
    assert failure is not None
    assert failure.startswith(f"{closed} failed: ")


async def test_ipv6() -> None:
    try:
        async with server(accept, "::1") as grpc:
            assert await BY_CONNECTING(Node("a", grpc)) is None
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "was answered with 503"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "was answered with 302"),
        (b"HTTP/1.1 2\r\n\r\n", "not answered in HTTP/1"),
        (b"HTTP/1.1 20", "not answered in HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not answered in HTTP/1"),
        (b"", "not answered in HTTP/1"),
        (b"HTTP/1.1 200 " + b"O" * 100_000, "status line is longer than 1024 bytes"),
    ],
)
async def test_the_path_must_be_answered_with_success(reply: bytes, failure: str | None) -> None:
    async with server(saying(reply)) as rest:
        found = await BY_PATH(Node("a", rest=rest))
    assert (found is None) if failure is None else (found is not None and failure in found)


async def test_the_path_is_not_asked_of_the_grpc_endpoint() -> None:
    async with server(accept) as grpc:
        assert await BY_PATH(Node("a", grpc)) is None


async def test_a_server_that_never_answers_is_not_waited_for() -> None:
    async with server(silence) as rest:
        failure = await EndpointProbe(ProbeSettings(path="/", timeout=0.05))(Node("a", rest=rest))
    assert failure == f"{rest} did not answer within 0.05 s."
