"""Flow control: what waits, in what order it goes on, and what a stuck peer can make us hold."""

from typing import Any

import hpack
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2 import frames
from ext_proc.http2.frames import Setting, frame, settings_frame
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_connection import ServerConnection
from ext_proc.http2.writer import BURST
from tests.ext_proc.http2.peer import HEADERS, Book, frames_of, message, raw, split
from tests.ext_proc.http2.test_server_connection import Echoes

# Encoded as literals, so that the same bytes open every stream.
BLOCK = hpack.Encoder().encode([(*field, True) for field in HEADERS])


def opened(connection: ServerConnection, *streams: int) -> None:
    for stream in streams:
        connection.receive(frame(frames.HEADERS, frames.END_HEADERS, stream, BLOCK), 0.0)


def update(connection: ServerConnection, stream: int, size: int) -> None:
    connection.receive(frames.window_update(stream, size), 0.0)


def taken(connection: ServerConnection) -> list[tuple[int, int, int, bytes]]:
    """Everything that there is to take, and how a shell takes it."""
    out = b""
    while connection.unsent:
        out += connection.take()
    return frames_of(out)


def data(found: Any, stream: int | None = None) -> bytes:
    return b"".join(p for kind, _, number, p in found if kind == frames.DATA and stream in (None, number))


def windows(found: Any) -> dict[int, int]:
    """What was granted, by stream."""
    granted: dict[int, int] = {}
    for kind, _, number, payload in found:
        if kind == frames.WINDOW_UPDATE:
            granted[number] = granted.get(number, 0) + int.from_bytes(payload, "big")
    return granted


def greeted(book: Book, window: int, limits: Limits | None = None) -> ServerConnection:
    connection = raw(book.open, limits)
    connection.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: window}), 0.0)
    connection.take()
    return connection


def test_what_is_over_the_stream_window_waits_for_more_of_it() -> None:
    book = Book()
    connection = greeted(book, 100)
    opened(connection, 1)
    body = bytes(range(250))
    book.sessions[0].stream.send(body)
    book.sessions[0].stream.finish()
    found = taken(connection)
    assert data(found) == message(body)[:100]
    assert [kind for kind, *_ in found] == [frames.HEADERS, frames.DATA]
    update(connection, 1, 50)
    assert data(taken(connection)) == message(body)[100:150]
    update(connection, 1, 1000)
    found = taken(connection)
    assert data(found) == message(body)[150:]
    assert [kind for kind, *_ in found] == [frames.DATA, frames.HEADERS, frames.RST_STREAM]
    assert connection.streams == 0


def test_a_change_of_the_initial_window_holds_for_open_streams_and_may_be_a_debt() -> None:
    book = Book()
    connection = greeted(book, 100)
    opened(connection, 1)
    book.sessions[0].stream.send(bytes(500))
    assert len(data(taken(connection))) == 100
    connection.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 40}), 0.0)  # the window is now -60
    update(connection, 1, 60)
    assert data(taken(connection)) == b""
    update(connection, 1, 1)
    assert len(data(taken(connection))) == 1
    connection.receive(settings_frame({Setting.INITIAL_WINDOW_SIZE: 240}), 0.0)
    assert len(data(taken(connection))) == 200


def test_the_connection_window_is_shared_in_turns() -> None:
    book = Book()
    connection = greeted(book, 1 << 20)
    opened(connection, 1, 3, 5)
    for session in book.sessions:
        session.stream.send(bytes(100_000))
    first = taken(connection)
    assert len(data(first)) == 2**16 - 1, "the window that a connection starts with"
    update(connection, 0, 6 * 2**14)
    order = [number for kind, _, number, _ in taken(connection) if kind == frames.DATA]
    assert sorted(order) == [1, 1, 3, 3, 5, 5]
    assert sorted(order[:3]) == [1, 3, 5]


def test_a_stream_that_comes_later_does_not_overtake() -> None:
    book = Book()
    connection = greeted(book, 1 << 20)
    opened(connection, 1, 3)
    book.sessions[0].stream.send(bytes(70_000))
    taken(connection)
    update(connection, 0, 3)
    book.sessions[1].stream.send(b"")
    assert [number for kind, _, number, _ in taken(connection) if kind == frames.DATA] == [1]


def test_frames_are_as_long_as_the_peer_allows() -> None:
    book = Book()
    connection = greeted(book, 1 << 20)
    opened(connection, 1, 3)
    book.sessions[0].stream.send(bytes(20_000))
    assert [len(p) for kind, _, _, p in taken(connection) if kind == frames.DATA] == [16_384, 3_621]
    connection.receive(settings_frame({Setting.MAX_FRAME_SIZE: 30_000}), 0.0)
    book.sessions[1].stream.send(bytes(20_000))
    assert [len(p) for kind, _, _, p in taken(connection) if kind == frames.DATA] == [20_005]


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(1, 400)), max_size=30),
    st.integers(0, 300),
)
def test_no_window_is_overdrawn_and_nothing_is_lost(bodies: list[bytes], updates: Any, initial: int) -> None:
    book = Book()
    connection = greeted(book, initial)
    opened(connection, 1)
    stream_window, connection_window = initial, 2**16 - 1
    got = b""
    for body in bodies:
        book.sessions[0].stream.send(body)
    book.sessions[0].stream.finish()
    for stream, size in [*updates, (1, 10_000)]:
        sent = data(taken(connection))
        stream_window -= len(sent)
        connection_window -= len(sent)
        assert stream_window >= 0
        assert connection_window >= 0
        got += sent
        update(connection, stream, size)
        stream_window += size if stream else 0
        connection_window += 0 if stream else size
    got += data(taken(connection))
    assert split(got) == bodies
    assert connection.streams == 0


def test_bodies_come_in_bursts_so_that_a_transport_can_say_stop() -> None:
    book = Book()
    connection = greeted(book, 1 << 30)
    update(connection, 0, 1 << 30)
    opened(connection, 1)
    book.sessions[0].stream.send(bytes(3 * BURST))
    sizes = []
    while connection.unsent:
        sizes.append(len(data(frames_of(connection.take()))))
    assert max(sizes) <= BURST
    assert sum(sizes) == 3 * BURST + 5


def test_a_full_transport_holds_bodies_back_but_not_control() -> None:
    book = Book()
    connection = greeted(book, 1 << 20)
    opened(connection, 1)
    taken(connection)
    connection.pause()
    book.sessions[0].stream.send(b"waits")
    connection.receive(frame(frames.PING, 0, 0, b"12345678"), 0.0)
    kinds = [kind for kind, *_ in taken(connection)]
    assert kinds == [frames.HEADERS, frames.PING]
    connection.resume()
    assert split(data(taken(connection))) == [b"waits"]


def test_windows_are_given_back_sparsely() -> None:
    book = Book()
    connection = greeted(book, 1 << 20, Limits(stream_window=1000, connection_window=100_000))
    opened(connection, 1)
    taken(connection)
    connection.receive(frame(frames.DATA, 0, 1, bytes(499)), 0.0)
    assert windows(taken(connection)) == {}
    connection.receive(frame(frames.DATA, frames.PADDED, 1, b"\x01P"), 0.0)
    assert windows(taken(connection)) == {1: 501}, "padding counts"
    for number in range(3, 201, 2):
        opened(connection, number)
        connection.receive(frame(frames.DATA, 0, number, bytes(499)), 0.0)
    assert windows(taken(connection)) == {}, "49,902 bytes of 100,000"
    connection.receive(frame(frames.DATA, 0, 1, bytes(100)), 0.0)
    assert windows(taken(connection)) == {0: 50_002}


def test_a_full_transport_grants_nothing_until_it_has_room() -> None:
    book = Book()
    connection = greeted(book, 1 << 20, Limits(stream_window=1000, connection_window=70_000))
    opened(connection, 1, 3)
    connection.pause()
    taken(connection)
    for _ in range(2):
        connection.receive(frame(frames.DATA, 0, 1, bytes(500)), 0.0)
    opened(connection, *range(5, 145, 2))
    for number in range(5, 145, 2):
        connection.receive(frame(frames.DATA, 0, number, bytes(499)), 0.0)
    assert windows(taken(connection)) == {}
    connection.resume()
    assert windows(taken(connection)) == {0: 1000 + 70 * 499, 1: 1000}


def test_an_echo_to_a_peer_that_does_not_take_it_stays_bounded() -> None:
    book = Echoes()
    limits = Limits(stream_window=1000, stream_queue=3000)
    connection = greeted(book, 100, limits)
    opened(connection, 1)
    sent, window = 0, 1000
    while window >= 105:
        connection.receive(frame(frames.DATA, 0, 1, message(bytes(100))), 0.0)
        sent, window = sent + 105, window - 105
        window += windows(taken(connection)).get(1, 0)
    assert limits.stream_queue < sent <= limits.stream_queue + limits.stream_window + 100
    echoed = b""
    update(connection, 1, 10_000)
    found = taken(connection)
    echoed += data(found)
    assert len(echoed) == sent - 100
    assert windows(found)[1] > 0, "the peer may go on"


def test_a_reset_stream_leaves_the_line() -> None:
    book = Book()
    connection = greeted(book, 1 << 20)
    opened(connection, 1, 3)
    for session in book.sessions:
        session.stream.send(bytes(70_000))
    taken(connection)
    connection.receive(frames.rst_stream(1, frames.ErrorCode.CANCEL), 0.0)
    update(connection, 0, 1 << 20)
    assert {number for kind, _, number, _ in taken(connection) if kind == frames.DATA} == {3}
    assert not connection.unsent
