"""The end of a connection on our part: GOAWAY in two steps, and what becomes of the streams."""

import hpack

from ext_proc.http2 import frames
from ext_proc.http2.frames import PREFACE, frame
from ext_proc.http2.server_connection import ServerConnection
from tests.ext_proc.http2.peer import PATH, Book, frames_of, message, raw
from tests.ext_proc.http2.test_hostile import OPEN


def goodbyes(found: list[tuple[int, int, int, bytes]]) -> list[int]:
    """The last streams of the GOAWAYs."""
    return [int.from_bytes(payload[:4], "big") for kind, _, _, payload in found if kind == frames.GOAWAY]


def status_of(found: list[tuple[int, int, int, bytes]], stream: int) -> str:
    """The gRPC status that ends a stream; our blocks need no table to be decoded."""
    [block] = [p for kind, flags, number, p in found if (kind, flags & 1, number) == (frames.HEADERS, 1, stream)]
    return str(dict(hpack.Decoder().decode(block))["grpc-status"])


def test_an_idle_connection_ends_as_soon_as_the_peer_has_heard_of_it() -> None:
    connection = raw(Book().open)
    connection.shut_down()
    (kind, _, _, last), ping = frames_of(connection.take())
    assert (kind, last[:4]) == (frames.GOAWAY, b"\x7f\xff\xff\xff")
    assert not connection.ended
    connection.receive(frame(frames.PING, frames.ACK, 0, ping[3]), 0.0)
    assert goodbyes(frames_of(connection.take())) == [0]
    assert connection.ended


def test_a_stream_that_crosses_the_goodbye_is_served_and_a_later_one_refused() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(OPEN, 0.0)
    connection.shut_down()
    ping = frames_of(connection.take())[-1]
    crossing, later = (OPEN[:8] + bytes([number]) + OPEN[9:] for number in (3, 5))
    connection.receive(crossing, 0.0)
    connection.receive(frame(frames.PING, frames.ACK, 0, ping[3]), 0.0)
    assert goodbyes(frames_of(connection.take())) == [3]
    connection.receive(later, 0.0)
    refused = (frames.RST_STREAM, 0, 5, int(frames.ErrorCode.REFUSED_STREAM).to_bytes(4, "big"))
    assert frames_of(connection.take()) == [refused]
    assert book.what() == ["open", "open"]
    for session in book.sessions:
        assert not connection.ended
        session.stream.finish()
        connection.take()
    assert connection.ended


def test_a_connection_waits_until_the_peer_has_taken_the_last_answer() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(OPEN, 0.0)
    connection.shut_down()
    connection.receive(frame(frames.PING, frames.ACK, 0, frames_of(connection.take())[-1][3]), 0.0)
    book.sessions[0].stream.send(bytes(100_000))
    book.sessions[0].stream.finish()
    first = frames_of(connection.take())
    assert not connection.ended
    connection.receive(frames.window_update(0, 100_000) + frames.window_update(1, 100_000), 0.0)
    rest = frames_of(connection.take())
    assert connection.ended
    assert sum(len(payload) for kind, _, _, payload in first + rest if kind == frames.DATA) == 100_005
    assert status_of(rest, 1) == "0"


def test_a_connection_that_has_not_begun_is_closed_at_once() -> None:
    connection = ServerConnection({PATH: Book().open}, lambda: None)
    connection.receive(PREFACE[:10], 0.0)
    connection.shut_down()
    assert connection.ended
    assert connection.take() == b""


def test_at_the_end_of_grace_what_is_left_is_unavailable() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(OPEN + OPEN[:8] + b"\x03" + OPEN[9:], 0.0)
    book.sessions[1].stream.send(b"half an answer")
    connection.shut_down()
    connection.take()
    connection.end()
    found = frames_of(connection.take())
    assert [status_of(found, stream) for stream in (1, 3)] == ["14", "14"]
    assert goodbyes(found) == [3]
    assert connection.ended
    assert [entry for entry in book.log if entry[1] == "gone"] == [(0, "gone"), (1, "gone")]


def test_a_ping_of_the_peer_is_not_taken_for_our_own() -> None:
    connection = raw(Book().open)
    ours = b"farewell"
    connection.receive(frame(frames.PING, frames.ACK, 0, ours), 0.0)
    assert connection.take() == b""
    connection.shut_down()
    connection.take()
    connection.receive(frame(frames.PING, frames.ACK, 0, b"whatever"), 0.0)
    assert frames_of(connection.take()) == []
    connection.receive(OPEN + frame(frames.DATA, 0, 1, message(b"x")), 0.0)
    assert not connection.ended
