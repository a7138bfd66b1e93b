"""A peer that takes too long, or is gone without a word."""

from collections.abc import Iterator
from typing import Any

import pytest

from ext_proc.http2.client_connection import ClientConnection
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.connection import H2Connection
from ext_proc.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    ErrorCode,
    frame,
    settings_frame,
)
from ext_proc.http2.limits import Limits, Rate
from ext_proc.http2.server_connection import ServerConnection
from tests.ext_proc.http2.peer import PATH, Book, frames_of, raw
from tests.ext_proc.http2.service import BLOCK
from tests.ext_proc.http2.test_hostile import BLOCK as REQUEST
from tests.ext_proc.http2.test_hostile import OPEN

LIMITS = Limits()
SILENCE, PONG = int(LIMITS.silence_seconds), int(LIMITS.pong_seconds)


class Clock:
    """Looks at a connection every second."""

    def __init__(self, connection: H2Connection[Any], now: float = 1000.0) -> None:
        self.connection = connection
        self.now = now
        connection.watch(now)

    def seconds(self, count: int) -> Iterator[list[int]]:
        """The kinds of the frames that each of so many looks has caused."""
        for _ in range(count):
            self.now += 1.0
            self.connection.watch(self.now)
            yield [kind for kind, *_ in frames_of(self.connection.take())]

    def all(self, count: int) -> list[int]:
        return [kind for kinds in self.seconds(count) for kind in kinds]


def pong(connection: H2Connection[Any]) -> None:
    connection.receive(frame(PING, ACK, 0, b"still on"), 0.0)


@pytest.mark.parametrize("greeting", [b"", PREFACE[:10], PREFACE, PREFACE + settings_frame({})[:5]])
def test_a_peer_that_does_not_greet_is_not_waited_for(greeting: bytes) -> None:
    connection = ServerConnection({PATH: Book().open}, lambda: None)
    connection.receive(greeting, 0.0)
    connection.take()
    clock = Clock(connection)
    assert clock.all(int(LIMITS.greeting_seconds) - 1) == []
    assert not connection.ended
    assert clock.all(1) == [GOAWAY]
    assert connection.ended


def test_a_greeting_that_trickles_has_no_more_time() -> None:
    connection = ServerConnection({PATH: Book().open}, lambda: None)
    clock = Clock(connection)
    for byte in PREFACE:
        connection.receive(bytes([byte]), 0.0)
        clock.all(2)
        if connection.ended:
            return
    raise AssertionError("it was waited for")


def test_a_header_block_that_does_not_end_is_not_waited_for() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(OPEN + frame(HEADERS, 0, 3, REQUEST[:4]), 0.0)
    clock = Clock(connection)
    for number in range(int(LIMITS.header_block_seconds) - 1):
        assert clock.all(1) == []
        if number % 3 == 0:
            connection.receive(frame(CONTINUATION, 0, 3, REQUEST[4 + number : 5 + number]), 0.0)
    assert clock.all(1) == [GOAWAY]
    assert book.what() == ["open", "gone"]


def test_each_header_block_has_its_own_time() -> None:
    connection = raw(Book().open)
    clock = Clock(connection)
    for number in range(1, 21, 2):
        connection.receive(frame(HEADERS, 0, number, REQUEST[:4]), 0.0)
        clock.all(8)
        connection.receive(frame(CONTINUATION, END_HEADERS, number, REQUEST[4:]), 0.0)
    assert connection.streams == 10


@pytest.mark.parametrize("streams", [b"", OPEN], ids=["idle", "a stream"])
def test_a_servers_peer_is_asked_after_a_silence_and_gone_where_it_does_not_answer(streams: bytes) -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(streams, 0.0)
    clock = Clock(connection)
    assert clock.all(SILENCE - 1) == []
    assert clock.all(1) == [PING]
    assert clock.all(PONG - 1) == []
    assert not connection.ended
    assert clock.all(1) == [GOAWAY]
    assert connection.ended
    assert book.what() == (["open", "gone"] if streams else [])


def test_a_peer_that_answers_is_asked_again_and_again_and_stays() -> None:
    connection = raw(Book().open)
    clock = Clock(connection)
    asked = 0
    for _ in range(10 * SILENCE):
        if PING in clock.all(1):
            asked += 1
            clock.all(PONG - 2)
            pong(connection)
    assert asked >= 9
    assert not connection.ended


def test_any_frame_is_a_sign_of_life_and_half_a_frame_is_none() -> None:
    connection = raw(Book().open)
    connection.receive(OPEN, 0.0)
    clock = Clock(connection)
    for _ in range(10):
        assert clock.all(SILENCE - 1) == []
        connection.receive(frame(DATA, 0, 1, b"\0"), 0.0)
    connection.receive(frame(DATA, 0, 1, bytes(1000))[:20], 0.0)
    kinds = []
    for _ in range(SILENCE + PONG + 3):
        connection.receive(b"\0", 0.0)
        kinds += clock.all(1)
    assert kinds == [PING, GOAWAY]


def test_a_client_asks_only_while_a_response_is_due() -> None:
    outcomes: list[HttpResponse | Broken] = []
    connection = ClientConnection(lambda: None)
    connection.receive(settings_frame({}), 0.0)
    connection.take()
    clock = Clock(connection)
    assert clock.all(20 * SILENCE) == []
    connection.request(BLOCK, (), 100, outcomes.append)
    connection.take()
    assert clock.all(1) == [PING], "it was silent for long"
    pong(connection)
    assert clock.all(SILENCE) == []
    assert clock.all(PONG + 1) == [PING, GOAWAY]
    assert outcomes == [Broken("the stream was reset: CANCEL")]
    assert not connection.has_room


def test_time_in_which_nobody_looked_is_not_the_peers() -> None:
    """A suspended process finds what came meanwhile only after it was told of the time."""
    connection = raw(Book().open)
    clock = Clock(connection)
    clock.all(SILENCE + 1)
    clock.now += 3600.0
    assert clock.all(1) == []
    pong(connection)
    assert clock.all(SILENCE - 5) == []
    assert not connection.ended


def test_answers_to_pings_of_ours_are_free_and_others_are_not() -> None:
    connection = raw(Book().open, Limits(idle_frames=Rate(5, 0)))
    clock = Clock(connection)
    for _ in range(20):
        assert PING in clock.all(SILENCE + 2)
        pong(connection)
    for _ in range(6):
        pong(connection)
    assert connection.ended
    assert int(ErrorCode.ENHANCE_YOUR_CALM).to_bytes(4, "big") == frames_of(connection.take())[-1][3][4:8]
