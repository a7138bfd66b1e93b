"""What the streams of one connection hold together."""

from typing import Any

from ext_proc.http2.client_stream import Broken
from ext_proc.http2.connection import H2Connection
from ext_proc.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    rst_stream,
    window_update,
)
from ext_proc.http2.limits import Limits
from tests.ext_proc.http2.peer import Book, feed, frames_of, message, raw
from tests.ext_proc.http2.service import Service
from tests.ext_proc.http2.test_flow_control import greeted, windows
from tests.ext_proc.http2.test_hostile import BLOCK

LIMITS = Limits(message=20_000, held=10_000, stream_window=4_000)


def opened(book: Book, streams: int, limits: Limits = LIMITS) -> Any:
    connection = raw(book.open, limits)
    feed(connection, b"".join(frame(HEADERS, END_HEADERS, 2 * index + 1, BLOCK) for index in range(streams)))
    connection.take()
    return connection


def granted(connection: Any) -> dict[int, int]:
    """By stream, those of the connection left out."""
    return {number: size for number, size in windows(frames_of(connection.take())).items() if number}


def piece(connection: Any, stream: int, size: int, *, first: bool = False) -> dict[int, int]:
    """The next part of a message of 15,000 bytes; what is granted for it."""
    data = message(bytes(15_000))[:size] if first else bytes(size)
    feed(connection, frame(DATA, 0, stream, data))
    return granted(connection)


def test_under_the_bound_everybody_is_let_send() -> None:
    connection = opened(Book(), 4)
    for stream in (1, 3, 5, 7):
        assert piece(connection, stream, 2_400, first=True) == {stream: 2_400}
    assert connection.holdings.held == 9_600


def test_over_it_one_stream_after_the_other_until_each_message_is_whole() -> None:
    book = Book()
    connection = opened(book, 5)
    for stream in (1, 3, 5, 7):
        piece(connection, stream, 2_400, first=True)
    assert piece(connection, 9, 2_400, first=True) == {9: 2_400}, "counted after it was granted"
    assert piece(connection, 1, 2_400) == {1: 2_400}, "the first that asks goes on"
    assert piece(connection, 3, 2_400) == {}
    assert piece(connection, 5, 2_400) == {}
    for _ in range(4):
        assert piece(connection, 1, 2_040) == {1: 2_040}
    assert book.what().count("message") == 0
    assert piece(connection, 1, 2_045) == {1: 2_045, 3: 2_400}, "the message is whole, and the next one goes on"
    assert book.what().count("message") == 1
    feed(connection, rst_stream(3, ErrorCode.CANCEL))
    assert set(granted(connection)) == {5}


def test_a_stream_that_holds_nothing_is_not_held_up() -> None:
    connection = opened(Book(), 8)
    for stream in range(1, 12, 2):
        piece(connection, stream, 2_400, first=True)
    assert connection.holdings.held > LIMITS.held
    feed(connection, frame(DATA, 0, 13, message(bytes(2_000))))
    assert granted(connection) == {13: 2_005}


def test_over_the_second_bound_those_that_want_more_end_and_new_streams_are_refused() -> None:
    book = Book()
    connection = opened(book, 20)
    for stream in range(1, 41, 2):
        feed(connection, frame(DATA, 0, stream, message(bytes(15_000))[:1_700]))
    found = frames_of(connection.take())
    ended = [(number, payload) for kind, _, number, payload in found if kind == RST_STREAM]
    assert ended
    assert {payload for _, payload in ended} == {int(ErrorCode.ENHANCE_YOUR_CALM).to_bytes(4, "big")}
    assert connection.holdings.held <= LIMITS.most_held
    assert not connection.ended
    assert book.what().count("gone") == len(ended)

    book.sessions[0].stream.send(bytes(80_000))  # more than the peer takes, and more than may be held
    feed(connection, frame(HEADERS, END_HEADERS, 41, BLOCK))
    found = frames_of(connection.take())
    refused = {number: payload[3] for kind, _, number, payload in found if kind == RST_STREAM}
    assert refused == {41: ErrorCode.REFUSED_STREAM, 1: ErrorCode.ENHANCE_YOUR_CALM}


def test_replies_that_are_not_taken_count_until_they_are() -> None:
    book = Book()
    connection = greeted(book, 100, LIMITS)
    feed(connection, frame(HEADERS, END_HEADERS, 1, BLOCK))
    book.sessions[0].stream.send(bytes(5_000))
    connection.take()
    assert connection.holdings.held == 5_005 - 100
    feed(connection, window_update(1, 1_000))
    connection.take()
    assert connection.holdings.held == 5_005 - 1_100
    book.sessions[0].stream.finish()
    feed(connection, window_update(1, 10_000))
    connection.take()
    assert (connection.holdings.held, connection.streams) == (0, 0)


def test_nothing_is_counted_any_more_however_a_stream_ends() -> None:
    ends: list[Any] = [
        lambda connection, book: feed(connection, rst_stream(1, ErrorCode.CANCEL)),
        lambda connection, book: book.sessions[0].stream.finish(),
        lambda connection, book: book.sessions[0].stream.finish(13, "no"),
        lambda connection, book: feed(connection, frame(DATA, END_STREAM, 1, b"x")),
        lambda connection, book: feed(connection, frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK)),
        lambda connection, book: feed(connection, frame(WINDOW_UPDATE, 0, 1, bytes(4))),
        lambda connection, book: connection.lost(),
        lambda connection, book: connection.end(),
    ]
    for end in ends:
        book = Book()
        connection = opened(book, 1)
        piece(connection, 1, 1_000, first=True)
        book.sessions[0].stream.send(b"reply")
        assert connection.holdings.held
        end(connection, book)
        connection.take()
        assert (connection.holdings.held, connection.streams) == (0, 0)


def test_one_byte_pieces_take_no_more_room_than_they_have_bytes() -> None:
    connection = opened(Book(), 1, Limits())
    feed(connection, frame(DATA, 0, 1, message(bytes(5_000))[:5]))
    feed(connection, frame(DATA, 0, 1, b"x") * 3_000)
    assert connection.holdings.held == 3_005
    [stream] = connection._streams.values()
    assert stream._assembler.have == 3_005
    assert stream._assembler._have.__sizeof__() < 4_000


def test_the_answers_that_a_client_reads_count_too() -> None:
    service = Service(Limits(message=20_000, held=10_000, stream_window=4_000))
    exchange = service.ask(limit=50_000)
    service.exchange()
    service.reply(exchange.id, body=bytes(3_000), trailers=[("x", "y")])
    assert isinstance(service.connection, H2Connection)
    assert service.connection.holdings.held == 0
    other = service.ask(limit=50_000)
    service.exchange()
    service.server.send_headers(other.id, [(":status", "200")])
    service.server.send_data(other.id, bytes(1_500))
    service.exchange()
    assert service.connection.holdings.held == 1_500
    other.give_up()
    assert service.connection.holdings.held == 0
    assert not isinstance(service.outcomes.get(other.id), Broken)
