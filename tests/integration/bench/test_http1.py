"""The load generator's HTTP/1.1, against answers in any pieces and a server that hangs up."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.bench.http1 import Answer, Connections, HttpError, post

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nx-a: b\r\n\r\nhello\r\n\r\nyo"
CHUNKS = (
    b"HTTP/1.1 429 Too Many Requests\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\nA\r\n0123\r\n6789\r\n0\r\n\r\n"
)
EMPTY = b"HTTP/1.1 503 \r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(("whole", "status", "open_"), [(LENGTH, 200, True), (CHUNKS, 429, True), (EMPTY, 503, False)])
@given(data=st.data())
def test_an_answer_is_whole_with_its_last_byte(whole: bytes, status: int, open_: bool, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    answer = Answer()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        assert answer.feed(whole[start:end]) == (end == len(whole))
    assert (answer.status, answer.keeps_open) == (status, open_)


@pytest.mark.parametrize(
    "data", [b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\nx\r\n"]
)
def test_what_is_no_answer_is_said(data: bytes) -> None:
    with pytest.raises(HttpError):
        Answer().feed(data)


async def test_a_connection_is_used_again_and_one_that_has_ended_is_not() -> None:
    asked: list[bytes] = []
    ports: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        for answer in (LENGTH, CHUNKS, EMPTY):
            asked.append(await reader.readexactly(len(request)))
            writer.write(answer)
        asked.append(await reader.read())
        writer.close()

    request = post("host", "/v2/models/m/infer", {"tloc": "50"}, b"{}")
    assert request == b"POST /v2/models/m/infer HTTP/1.1\r\nhost: host\r\ncontent-length: 2\r\ntloc: 50\r\n\r\n{}"
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connections = Connections("127.0.0.1", server.sockets[0].getsockname()[1])
        assert [await connections.call(request) for _ in range(4)] == [200, 429, 503, 200]
        assert len(ports) == 2
        connections.close()
    assert set(asked) <= {request, b""}


async def test_a_server_that_hangs_up_has_not_answered() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(LENGTH[:30])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connections = Connections("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(HttpError):
            await connections.call(post("host", "/", {}, b"{}"))
