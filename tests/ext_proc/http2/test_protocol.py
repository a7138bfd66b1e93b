"""The asyncio shell of a connection on a scripted transport."""

import asyncio
from typing import Any

import pytest

from ext_proc.http2.aio.protocol import Http2Protocol
from ext_proc.http2.aio.turns import Turns
from ext_proc.http2.client_connection import ClientConnection
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.frames import ACK, PING, frame, settings_frame
from tests.ext_proc.http2.service import BLOCK


class Transport(asyncio.Transport):
    """Says nothing to its protocol by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.raises: Exception | None = None
        self.aborted = 0
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        if self.raises is not None:
            raise self.raises
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return bool(self.aborted)

    def abort(self) -> None:
        self.aborted += 1


class Owner:
    """A client's connection, and what its owner was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.outcomes: list[HttpResponse | Broken] = []
        self.protocol = Http2Protocol(
            ClientConnection, lambda _: self.told.append("made"), lambda _: self.told.append("lost"), Turns()
        )

    def ask(self) -> None:
        self.protocol.connection.request(BLOCK, (), 100, self.outcomes.append)


async def test_a_write_that_raises_ends_the_connection_and_its_calls(caplog: pytest.LogCaptureFixture) -> None:
    owner, transport = Owner(), Transport()
    owner.protocol.connection_made(transport)
    owner.ask()
    transport.raises = RuntimeError("the handler is closed")
    await asyncio.sleep(0)
    assert owner.told == ["made", "lost"]
    assert [type(outcome) for outcome in owner.outcomes] == [Broken]
    assert (transport.aborted, owner.protocol.connection.has_room) == (1, False)
    assert "connection cut off" in caplog.text
    owner.protocol.connection_lost(None)
    assert owner.told == ["made", "lost"]


async def test_an_abort_tells_at_once_and_only_once() -> None:
    owner, transport = Owner(), Transport()
    owner.protocol.connection_made(transport)
    owner.ask()
    owner.protocol.abort()
    owner.protocol.connection_lost(None)
    owner.protocol.abort()
    assert (owner.told, len(owner.outcomes), transport.aborted) == (["made", "lost"], 1, 1)


async def test_a_transport_that_comes_after_the_abort_is_closed() -> None:
    owner, transport = Owner(), Transport()
    owner.protocol.abort()
    owner.protocol.connection_made(transport)
    assert (owner.told, transport.aborted, transport.written) == (["lost"], 1, [])


async def test_a_connection_that_is_behind_is_not_read_until_it_has_caught_up() -> None:
    owner, transport = Owner(), Transport()
    owner.protocol.connection_made(transport)
    pings = frame(PING, 0, 0, bytes(8))
    owner.protocol.data_received(settings_frame({}) + pings * 300)
    assert not transport.reading
    answered = [b"".join(transport.written).count(frame(PING, ACK, 0, bytes(8)))]
    while not transport.reading:
        await asyncio.sleep(0)
        answered.append(b"".join(transport.written).count(frame(PING, ACK, 0, bytes(8))))
    assert answered == sorted(answered)
    assert 0 < answered[0] < 200
    assert answered[-1] == 300
    owner.protocol.abort()


async def test_one_that_is_cut_off_while_it_is_behind_leaves_the_line() -> None:
    owner, transport = Owner(), Transport()
    owner.protocol.connection_made(transport)
    owner.protocol.data_received(settings_frame({}) + frame(PING, 0, 0, bytes(8)) * 300)
    written = len(transport.written)
    owner.protocol.abort()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(transport.written), transport.reading) == (written, False)
