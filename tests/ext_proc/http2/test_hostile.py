"""What a peer must not do: the right code, no exception, and nothing that grows without bound."""

import itertools
from typing import Any

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2 import frames
from ext_proc.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    settings_frame,
)
from ext_proc.http2.limits import Allowance, Limits, Rate
from ext_proc.http2.server_connection import ServerConnection
from ext_proc.http2.server_stream import ServerStream
from tests.ext_proc.http2.peer import HEADERS as FIELDS
from tests.ext_proc.http2.peer import METADATA, PATH, Book, feed, frames_of, message, raw
from tests.ext_proc.http2.test_server_connection import Echoes
from tests.left_behind import still_there, uncollected

BLOCK = hpack.Encoder().encode([(*field, True) for field in FIELDS])
OPEN = frame(HEADERS, END_HEADERS, 1, BLOCK)
HUGE_WINDOW = b"\x7f\xff\xff\xff"


def goaway_of(connection: ServerConnection) -> tuple[int, int] | None:
    """(last stream, code) of the GOAWAY, if there is one."""
    for kind, _, _, payload in frames_of(connection.take()):
        if kind == GOAWAY:
            return int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
    return None


CONNECTION_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "data on stream 0": (frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (frame(DATA, 0, 9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (frame(HEADERS, END_HEADERS, 0, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "headers on an even stream": (frame(HEADERS, END_HEADERS, 2, BLOCK), ErrorCode.PROTOCOL_ERROR),
    "headers on a stream that was closed": (OPEN + frame(RST_STREAM, 0, 1, bytes(4)) + OPEN, ErrorCode.STREAM_CLOSED),
    "headers below the highest stream": (
        frame(HEADERS, END_HEADERS, 5, BLOCK) + frame(HEADERS, END_HEADERS, 3, BLOCK),
        ErrorCode.STREAM_CLOSED,
    ),
    "headers not HPACK": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "trailers not HPACK": (OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xc0"), ErrorCode.COMPRESSION_ERROR),
    "headers padded beyond their end": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), ErrorCode.PROTOCOL_ERROR),
    "headers shorter than their priority": (frame(HEADERS, END_HEADERS | 0x20, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "data padded beyond its end": (OPEN + frame(DATA, PADDED, 1, b"\x09abc"), ErrorCode.PROTOCOL_ERROR),
    "a block interrupted": (frame(HEADERS, 0, 1, BLOCK[:4]) + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a block of another stream": (
        frame(HEADERS, 0, 1, BLOCK[:4]) + frame(CONTINUATION, 0, 3, BLOCK[4:]),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (OPEN + frame(CONTINUATION, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "continuations without end": (
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 40,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "a block over the limit": (
        frame(HEADERS, 0, 1, bytes(60_000)) + frame(CONTINUATION, 0, 1, bytes(60_000)) * 4,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "priority on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "reset on stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "reset of an idle stream": (frame(RST_STREAM, 0, 9, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "reset of the wrong size": (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "settings on a stream": (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings of the wrong size": (frame(SETTINGS, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "settings acknowledged with words": (frame(SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "settings that make a window too large": (
        OPEN
        + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\0\0")
        + settings_frame({frames.Setting.INITIAL_WINDOW_SIZE: 2**20}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "push": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + BLOCK), ErrorCode.PROTOCOL_ERROR),
    "ping on a stream": (frame(PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "ping of the wrong size": (frame(PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "goaway on a stream": (frame(GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "goaway too short": (frame(GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "window update by nothing": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "window update of the wrong size": (frame(WINDOW_UPDATE, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "window update of an idle stream": (frame(WINDOW_UPDATE, 0, 9, HUGE_WINDOW), ErrorCode.PROTOCOL_ERROR),
    "window of the connection too large": (frame(WINDOW_UPDATE, 0, 0, HUGE_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame too long": (frame(DATA, 0, 1, bytes(64 * 1024 + 1)), ErrorCode.FRAME_SIZE_ERROR),
}

STREAM_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "malformed headers": (frame(HEADERS, END_HEADERS, 1, BLOCK + b"\x00\x01A\x01b"), ErrorCode.PROTOCOL_ERROR),
    "no path": (frame(HEADERS, END_HEADERS, 1, b"\x83\x86"), ErrorCode.PROTOCOL_ERROR),
    "trailers that end nothing": (OPEN + OPEN, ErrorCode.PROTOCOL_ERROR),
    "data after the end": (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK) + frame(DATA, 0, 1, b"x"),
        ErrorCode.STREAM_CLOSED,
    ),
    "headers after the end": (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK) + frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK),
        ErrorCode.STREAM_CLOSED,
    ),
    "data after a reset": (OPEN + frame(RST_STREAM, 0, 1, bytes(4)) + frame(DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    "priority of the wrong size": (frame(PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "window update by nothing": (OPEN + frame(WINDOW_UPDATE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "window too large": (OPEN + frame(WINDOW_UPDATE, 0, 1, HUGE_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
def test_a_fault_of_the_connection_ends_it_with_its_code(name: str) -> None:
    sent, code = CONNECTION_FAULTS[name]
    book = Book()
    connection = raw(book.open)
    feed(connection, sent + frame(PING, 0, 0, bytes(8)))
    assert connection.ended
    assert (goaway_of(connection) or (0, 0))[1] == code
    opened = book.what().count("open")
    assert book.what().count("gone") == opened
    connection.receive(OPEN, 0.0)
    assert connection.take() == b"", "an ended connection does nothing any more"


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_a_fault_of_a_stream_ends_only_that(name: str) -> None:
    sent, code = STREAM_FAULTS[name]
    book = Book()
    connection = raw(book.open)
    connection.receive(sent + frame(HEADERS, END_HEADERS, 11, BLOCK) + frame(DATA, 0, 11, message(b"fine")), 0.0)
    assert not connection.ended
    resets = [(number, payload) for kind, _, number, payload in frames_of(connection.take()) if kind == RST_STREAM]
    assert (1, int(code).to_bytes(4, "big")) in resets
    assert book.log[-1][1:] == ("message", b"fine")


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n", PREFACE + frame(PING, 0, 0, bytes(8)), PREFACE + frame(SETTINGS, 1, 0)]
)
def test_a_peer_that_speaks_something_else_is_sent_away(sent: bytes) -> None:
    connection = ServerConnection({}, lambda: None)
    connection.receive(sent, 0.0)
    assert connection.ended
    assert (goaway_of(connection) or (0, 0))[1] == ErrorCode.PROTOCOL_ERROR


def test_a_stream_over_its_window_is_reset() -> None:
    book = Book()
    connection = raw(book.open, Limits(stream_window=1000, stream_queue=10))
    book_stream = message(bytes(595))
    connection.receive(OPEN, 0.0)
    book.sessions[0].stream.send(bytes(2**16))  # more than the peer takes, so that nothing is granted
    connection.receive(frame(DATA, 0, 1, book_stream), 0.0)
    connection.receive(frame(DATA, 0, 1, book_stream), 0.0)
    resets = [payload for kind, _, _, payload in frames_of(connection.take()) if kind == RST_STREAM]
    assert resets == [int(ErrorCode.FLOW_CONTROL_ERROR).to_bytes(4, "big")]
    assert not connection.ended


def test_a_connection_over_its_window_ends() -> None:
    connection = raw(Book().open, Limits(connection_window=70_000))
    connection.pause()
    for number in range(1, 21, 2):
        connection.receive(frame(HEADERS, END_HEADERS, number, BLOCK) + frame(DATA, 0, number, bytes(10_000)), 0.0)
    assert (goaway_of(connection) or (0, 0))[1] == ErrorCode.FLOW_CONTROL_ERROR


def test_streams_over_the_limit_are_refused_and_may_go_elsewhere() -> None:
    book = Book()
    connection = raw(book.open, Limits(streams=2))
    for number in (1, 3, 5):
        connection.receive(frame(HEADERS, END_HEADERS, number, BLOCK), 0.0)
    connection.receive(frame(DATA, 0, 5, message(b"under way")), 0.0)
    assert frames_of(connection.take()) == [(RST_STREAM, 0, 5, int(ErrorCode.REFUSED_STREAM).to_bytes(4, "big"))]
    assert book.what() == ["open", "open"]


def storm(connection: ServerConnection, cycle: Any, count: int, seconds: float) -> int:
    """Sends `cycle(number)` for stream after stream, evenly over the time; how many until the connection ended."""
    for index in range(count):
        connection.receive(cycle(2 * index + 1), index * seconds / count)
        connection.take()
        if connection.ended:
            return index
    return count


def reset_at_once(number: int) -> bytes:
    return frame(HEADERS, END_HEADERS, number, BLOCK) + frame(RST_STREAM, 0, number, bytes(4))


def reset_after_a_message(number: int) -> bytes:
    return (
        frame(HEADERS, END_HEADERS, number, BLOCK)
        + frame(DATA, 0, number, message(b"x"))
        + frame(RST_STREAM, 0, number, bytes(4))
    )


LIMITS = Limits(idle_resets=Rate(100, 10), resets=Rate(500, 50), idle_frames=Rate(200, 20))


def test_rapid_resets_end_the_connection() -> None:
    assert storm(raw(Book().open, LIMITS), reset_at_once, 1000, 1.0) in range(100, 115)
    assert storm(raw(Book().open, LIMITS), reset_after_a_message, 1000, 1.0) in range(500, 560)


def test_resets_at_a_rate_that_is_allowed_do_not() -> None:
    assert storm(raw(Book().open, LIMITS), reset_at_once, 2000, 210.0) == 2000


def test_streams_that_were_answered_may_be_reset_without_limit() -> None:
    """Envoy ends its streams so."""
    assert storm(raw(Echoes().open, LIMITS), reset_after_a_message, 2000, 0.0) == 2000


@pytest.mark.parametrize(
    "idle",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0),
        frame(DATA, 0, 1),
        frame(DATA, PADDED, 1, b"\x02PP"),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0x99, 0, 0, b"whatever"),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(PING, frames.ACK, 0, bytes(8)),
        frame(SETTINGS, frames.ACK, 0),
        frame(RST_STREAM, 0, 3, bytes(4)),
        frame(WINDOW_UPDATE, 0, 3, b"\0\0\0\1"),
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(DATA, 0, 1, b"x"),
    ],
    ids=[
        "ping", "settings", "empty data", "empty padded data", "priority", "unknown", "goaway", "pong to nothing",
        "acknowledgement of nothing", "reset of a closed stream", "window of a closed stream", "window of a new stream",
        "window of a new connection", "one byte of a message",
    ],
)  # fmt: skip
def test_frames_that_move_nothing_are_borne_only_so_long(idle: bytes) -> None:
    assert storm(begun(), lambda _: idle, 1000, 1.0) in range(195, 215)
    assert storm(begun(), lambda _: idle, 1000, 50.0) == 1000


def begun() -> ServerConnection:
    """Stream 1 is in the middle of a message, 3 was reset."""
    connection = raw(Book().open, LIMITS)
    third = frame(HEADERS, END_HEADERS, 3, BLOCK) + frame(RST_STREAM, 0, 3, bytes(4))
    connection.receive(OPEN + frame(DATA, 0, 1, message(bytes(10_000))[:300]) + third, 0.0)
    return connection


UNKNOWN = hpack.Encoder().encode([(*field, True) for field in [*FIELDS[:2], (":path", "/no.Such/Method"), *FIELDS[3:]]])
REQUEST_OF_HTTP = hpack.Encoder().encode([(*field, True) for field in [(":method", "GET"), *FIELDS[1:]]])
TOO_MUCH = hpack.Encoder().encode([(*FIELDS[0], True), *((f"f{index}", "v", True) for index in range(600))])


@pytest.mark.parametrize("block", [UNKNOWN, REQUEST_OF_HTTP, TOO_MUCH], ids=["unknown path", "not gRPC", "too much"])
def test_requests_that_are_refused_unheard_are_borne_only_so_long(block: bytes) -> None:
    def ask(number: int) -> bytes:
        return frame(HEADERS, END_HEADERS | END_STREAM, number, block)

    assert storm(raw(Book().open, LIMITS), ask, 1000, 1.0) in range(195, 215)
    assert storm(raw(Book().open, LIMITS), ask, 1000, 50.0) == 1000


def test_streams_that_are_served_earn_the_late_frames_that_come_with_them() -> None:
    """However many calls a second there are."""

    def call(number: int) -> bytes:
        late = frame(WINDOW_UPDATE, 0, number, b"\0\0\1\0") + frame(PRIORITY, 0, number, bytes(5))
        return reset_after_a_message(number) + late

    assert storm(raw(Echoes().open, LIMITS), call, 2000, 0.0) == 2000


def test_a_reset_that_crosses_the_end_of_its_stream_is_free_and_the_next_one_is_not() -> None:
    book = Book()
    connection = raw(book.open, Limits(idle_frames=Rate(1, 0)))
    for number in range(1, 201, 2):
        connection.receive(frame(HEADERS, END_HEADERS, number, BLOCK), 0.0)
        book.sessions[-1].stream.finish()
        connection.receive(frame(RST_STREAM, 0, number, bytes(4)), 0.0)
    assert not connection.ended
    connection = raw(Book().open, Limits(idle_frames=Rate(1, 0)))
    connection.receive(OPEN + frame(RST_STREAM, 0, 1, bytes(4)) * 2, 0.0)
    assert not connection.ended
    connection.receive(frame(RST_STREAM, 0, 1, bytes(4)) * 5, 0.0)
    assert connection.ended


def test_a_change_of_all_windows_counts_by_the_streams() -> None:
    connection = raw(Book().open, Limits(idle_frames=Rate(100, 0)))
    for number in range(1, 2_001, 2):
        connection.receive(frame(HEADERS, END_HEADERS, number, BLOCK), 0.0)
    changes = [settings_frame({frames.Setting.INITIAL_WINDOW_SIZE: size}) for size in range(1_000, 1_050)]
    assert storm(connection, lambda number: changes[number // 2], 50, 0.0) in range(5, 8), "16 for 1,000 streams"


def test_of_many_windows_in_one_frame_only_the_last_is_applied() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(OPEN, 0.0)
    settings = b"".join(b"\0\4" + size.to_bytes(4, "big") for size in (0, 2**31 - 1, 7, 10))
    connection.receive(frame(SETTINGS, 0, 0, settings), 0.0)
    book.sessions[0].stream.send(bytes(100))
    assert sum(len(payload) for kind, _, _, payload in frames_of(connection.take()) if kind == DATA) == 10


@pytest.mark.parametrize("ends", [0, END_STREAM])
def test_a_request_whose_headers_are_too_much_is_431_and_the_connection_goes_on(ends: int) -> None:
    book = Book()
    connection = raw(book.open)
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    feed(connection, frame(HEADERS, END_HEADERS, 1, encoder.encode(FIELDS)))
    block = encoder.encode([*FIELDS, ("mine", "kept"), ("x", "y" * 70_000)], huffman=False)
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    feed(connection, frame(HEADERS, ends, 3, pieces[0]))
    for piece in pieces[1:-1]:
        feed(connection, frame(CONTINUATION, 0, 3, piece))
    feed(connection, frame(CONTINUATION, END_HEADERS, 3, pieces[-1]))
    found = [entry for entry in frames_of(connection.take()) if entry[2] == 3]
    assert decoder.decode(found[0][3]) == [(":status", "431")]
    assert [kind for kind, *_ in found] == [HEADERS, RST_STREAM][: 1 if ends else 2]
    feed(connection, frame(HEADERS, END_HEADERS, 5, encoder.encode([*FIELDS, ("mine", "kept")])))
    assert book.log[-1] == (1, "open", {**METADATA, "mine": "kept"})


def test_trailers_that_are_too_much_end_their_stream() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, TOO_MUCH), 0.0)
    resets = [payload[3] for kind, _, _, payload in frames_of(connection.take()) if kind == RST_STREAM]
    assert resets == [ErrorCode.ENHANCE_YOUR_CALM]
    assert (book.what(), connection.ended) == (["open", "gone"], False)


def test_an_allowance_refills_to_its_burst_and_no_more() -> None:
    allowance = Allowance(Rate(burst=2, per_second=1))
    assert [allowance.spend(0.0) for _ in range(3)] == [True, True, False]
    assert [allowance.spend(1.5), allowance.spend(1.6)] == [True, False]
    assert [allowance.spend(100.0) for _ in range(3)] == [True, True, False]
    assert allowance.spend(50.0) is False, "a clock that goes back gives nothing"


KINDS, NUMBERS = st.integers(0, 11), st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1])
PAYLOADS = st.one_of(
    st.binary(max_size=30),
    st.just(BLOCK),
    st.binary(max_size=20).map(message),
    st.sampled_from([bytes(4), bytes(8), b"\0\0\0\x10", HUGE_WINDOW]),
)
FRAMES = st.builds(frame, KINDS, st.integers(0, 255), NUMBERS, PAYLOADS)


def bears(data: bytes, cuts: list[int]) -> None:
    book = Echoes()
    connection = raw(book.open)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for a, b in itertools.pairwise(edges):
        connection.receive(data[a:b], 0.0)
        assert (goaway_of(connection) or (0, 0))[1] != ErrorCode.INTERNAL_ERROR, "an exception of our own was caught"
    connection.lost()
    ended = [entry for entry in book.log if entry[1] == "gone"]
    assert len(ended) == len(set(ended)), "no session is told twice"
    assert connection.streams == 0


@given(st.lists(FRAMES, max_size=25), st.lists(st.integers(0), max_size=5))
def test_no_frames_raise(script: list[bytes], cuts: list[int]) -> None:
    bears(OPEN + b"".join(script), cuts)


@given(st.binary(max_size=400), st.lists(st.integers(0), max_size=5))
def test_no_bytes_raise(data: bytes, cuts: list[int]) -> None:
    bears(data, cuts)
    connection = ServerConnection({PATH: Book().open}, lambda: None)
    connection.receive(data, 0.0)
    assert (goaway_of(connection) or (0, 0))[1] in (ErrorCode.NO_ERROR, ErrorCode.PROTOCOL_ERROR)


def test_a_turn_ends_with_its_time_whatever_its_frames_cost() -> None:
    clock = itertools.count()  # a second a look
    limits = Limits(turn_seconds=10.0)
    connection = ServerConnection({PATH: Book().open}, lambda: None, limits, lambda: float(next(clock)))
    assert feed(connection, PREFACE + settings_frame({}) + frame(PING, 0, 0, bytes(8)) * 40) > 3
    assert connection.take().count(frame(PING, frames.ACK, 0, bytes(8))) == 40


def test_a_lost_connection_holds_none_of_the_replies_that_waited_for_its_peer() -> None:
    book = Book()
    connection = raw(book.open)
    for number in range(1, 401, 2):
        opened = frame(HEADERS, END_HEADERS, number, BLOCK) + frame(DATA, END_STREAM, number, message(b"x"))
        feed(connection, opened)
        book.sessions.pop().stream.send(bytes(1000))
        connection.take()
    assert connection.streams == 200
    with uncollected():
        connection.lost()
        while connection.behind:
            connection.go_on(0.0)
        assert not still_there(ServerStream)
