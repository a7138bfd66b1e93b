"""The table of `ext_proc.http2.connection`: what a frame does, by the state of the stream that it names."""

from collections.abc import Callable

import pytest

from ext_proc.http2 import frames
from ext_proc.http2.frames import END_HEADERS, END_STREAM, ErrorCode, frame
from ext_proc.http2.server_connection import ServerConnection
from tests.ext_proc.http2.peer import Book, frames_of, message, raw
from tests.ext_proc.http2.service import Service
from tests.ext_proc.http2.test_hostile import BLOCK, OPEN

FRAMES = {
    "HEADERS": frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, BLOCK),
    "DATA": frame(frames.DATA, 0, 1, message(b"x")),
    "RST_STREAM": frame(frames.RST_STREAM, 0, 1, bytes(4)),
    "WINDOW_UPDATE": frames.window_update(1, 1),
    "PRIORITY": frame(frames.PRIORITY, 0, 1, bytes(5)),
}


def half_closed(connection: ServerConnection, _book: Book) -> None:
    connection.receive(FRAMES["HEADERS"], 0.0)


def opened(connection: ServerConnection, _book: Book) -> None:
    connection.receive(OPEN, 0.0)


def we_ended(connection: ServerConnection, book: Book) -> None:
    opened(connection, book)
    book.sessions[0].stream.finish()


def closed(connection: ServerConnection, book: Book) -> None:
    opened(connection, book)
    connection.receive(FRAMES["RST_STREAM"], 0.0)


def idle(_connection: ServerConnection, _book: Book) -> None:
    pass


STATES = (opened, half_closed, we_ended, closed, idle)
TABLE: dict[str, tuple[str, ...]] = {
    "HEADERS": ("half_closed", "STREAM_CLOSED", "", "STREAM_CLOSED!", "open half_closed"),
    "DATA": ("message", "STREAM_CLOSED", "", "STREAM_CLOSED", "PROTOCOL_ERROR!"),
    "RST_STREAM": ("gone", "gone", "", "", "PROTOCOL_ERROR!"),
    "WINDOW_UPDATE": ("", "", "", "", "PROTOCOL_ERROR!"),
    "PRIORITY": ("", "", "", "", ""),
}


def faults_of(sent: bytes) -> str:
    """The fault for which a stream or, with an exclamation mark, the connection ends; empty if there is none."""
    for kind, _, _, payload in frames_of(sent):
        if kind == frames.GOAWAY:
            return ErrorCode(int.from_bytes(payload[4:8], "big")).name + "!"
        if kind == frames.RST_STREAM:
            return ErrorCode(int.from_bytes(payload, "big")).name
    return ""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", TABLE)
def test_a_frame_does_what_the_table_says(name: str, state: Callable[[ServerConnection, Book], None]) -> None:
    book = Book()
    connection = raw(book.open)
    state(connection, book)
    connection.take()
    book.log.clear()
    connection.receive(FRAMES[name], 0.0)
    fault = faults_of(connection.take())
    # A session that lives when its stream ends for a fault is told so.
    seen = " ".join(event for event in book.what() if not fault or event != "gone")
    assert (seen or fault) == TABLE[name][STATES.index(state)]
    assert connection.ended == fault.endswith("!")


def test_a_response_on_an_idle_stream_ends_the_connection_of_a_client() -> None:
    service = Service()
    service.raw(frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, b"\x88"))
    assert faults_of(service.connection.take()) == "PROTOCOL_ERROR!"


def test_a_client_that_drains_ends_when_its_last_stream_is_reset_for_a_fault() -> None:
    service = Service()
    service.ask()
    service.connection.shut_down()
    service.raw(frame(frames.DATA, 0, 1, b"a body without headers"))
    kinds = [kind for kind, _, _, _ in frames_of(service.connection.take())]
    assert kinds == [frames.RST_STREAM, frames.GOAWAY]
    assert service.connection.ended
