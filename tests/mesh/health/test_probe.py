"""A probe of a real port: what it says of one where nobody listens, and of one that answers."""

import asyncio
import socket

import pytest

from mesh.health.probe import EndpointProbe
from mesh.health.state import ProbeSettings
from mesh.node import Node


async def test_who_is_not_there_is_told_in_the_systems_words() -> None:
    with socket.socket() as bound:  # and does not listen: nobody else gets its port
        bound.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{bound.getsockname()[1]}"
        told = await EndpointProbe(ProbeSettings())(Node("a", grpc=endpoint))
    assert told == f"{endpoint} failed: Connection refused"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"HTTP/1.1 204 No Content\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\n", "{} failed: GET /v2/health/ready was answered with 503."),
        (b"SSH-2.0\r\n", "{} failed: GET /v2/health/ready was not answered in HTTP/1."),
    ],
)
async def test_what_a_node_answers_is_told(line: bytes, told: str | None) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await EndpointProbe(ProbeSettings(path="/v2/health/ready"))(Node("a", rest=endpoint))
    assert found == (told and told.format(endpoint))
