import itertools
from typing import Any

import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2 import frames
from ext_proc.http2.frames import PREFACE, Setting, frame, settings_frame
from ext_proc.http2.limits import Limits
from ext_proc.http2.server_connection import ServerConnection
from ext_proc.http2.session import Stream
from tests.ext_proc.http2.peer import HEADERS, METADATA, PATH, Book, Echo, Peer, frames_of, message, raw

BLOCK = hpack.Encoder().encode(HEADERS)


class Echoes(Book):
    def open(self, stream: Stream) -> Echo:
        session = Echo(stream, self.log, len(self.sessions))
        self.sessions.append(session)
        return session


def seen(events: list[Any], kind: type, stream: int) -> list[Any]:
    return [event for event in events if isinstance(event, kind) and event.stream_id == stream]


def test_a_call_is_answered_with_headers_message_and_status() -> None:
    book = Echoes()
    peer = Peer(book.open)
    stream = peer.call(b"hello", end=True)
    peer.exchange()
    assert book.log == [
        (0, "open", METADATA),
        (0, "message", b"hello"),
        (0, "half_closed"),
    ]
    [response] = seen(peer.events, h2.events.ResponseReceived, stream)
    assert dict(response.headers)[":status"] == "200"
    assert dict(response.headers)["content-type"] == "application/grpc"
    assert peer.messages(stream) == [b"hello"]
    assert peer.status(stream) == {"grpc-status": "0"}
    assert not seen(peer.events, h2.events.StreamReset, stream)
    assert peer.connection.streams == 0


def test_all_that_one_read_causes_is_one_piece() -> None:
    book = Echoes()
    peer = Peer(book.open)
    peer.exchange()
    for number in range(20):
        peer.call(b"%d" % number, end=True)
    peer.connection.receive(peer.client.data_to_send(), 0.0)
    kinds = [kind for kind, *_ in frames_of(peer.connection.take())]
    assert kinds == [frames.HEADERS, frames.DATA, frames.HEADERS] * 20
    assert peer.connection.take() == b""
    assert peer.woken == 0, "nobody has to be woken for what is taken anyway"


def test_what_a_session_sends_later_wakes_the_shell_once() -> None:
    book = Book()
    peer = Peer(book.open)
    stream = peer.call(b"hold")
    peer.exchange()
    assert peer.woken == 0
    book.sessions[0].stream.send(b"one")
    book.sessions[0].stream.send(b"two")
    book.sessions[0].stream.finish(5, "not here")
    assert peer.woken == 1
    peer.exchange()
    assert peer.messages(stream) == [b"one", b"two"]
    assert peer.status(stream) == {"grpc-status": "5", "grpc-message": "not here"}


def test_an_early_end_tells_the_peer_to_stop_and_forgives_what_is_under_way() -> None:
    book = Book()
    connection = raw(book.open)
    connection.receive(frame(frames.HEADERS, frames.END_HEADERS, 1, BLOCK), 0.0)
    book.sessions[0].stream.finish(7)
    (kind, _, _, _), reset = frames_of(connection.take())
    assert kind == frames.HEADERS
    assert reset == (frames.RST_STREAM, 0, 1, b"\0\0\0\0"), "NO_ERROR"
    connection.receive(frame(frames.DATA, 0, 1, message(b"late")), 0.0)
    connection.receive(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, BLOCK), 0.0)
    connection.receive(frame(frames.RST_STREAM, 0, 1, bytes(4)), 0.0)
    assert frames_of(connection.take()) == []
    assert book.what() == ["open"], "a session is not called again after its end"


def test_a_status_without_an_answer_is_all_of_the_response() -> None:
    book = Book()
    peer = Peer(book.open)
    stream = peer.call(b"x")
    peer.exchange()
    book.sessions[0].stream.finish(3, "50% of ümläut\n" + "y" * 5000)
    peer.exchange()
    [response] = seen(peer.events, h2.events.ResponseReceived, stream)
    assert response.stream_ended
    headers = dict(response.headers)
    assert (headers[":status"], headers["content-type"], headers["grpc-status"]) == ("200", "application/grpc", "3")
    assert headers["grpc-message"].startswith("50%25 of %C3%BCml%C3%A4ut%0Ayyyy")
    assert len(headers["grpc-message"]) < 2000


def test_only_the_first_end_counts_and_nothing_follows_it() -> None:
    book = Book()
    peer = Peer(book.open)
    stream = peer.call(b"x", end=True)
    peer.exchange()
    ours = book.sessions[0].stream
    ours.finish(0)
    ours.finish(13, "too late")
    ours.send(b"too late")
    peer.exchange()
    assert peer.status(stream)["grpc-status"] == "0"
    assert peer.messages(stream) == []
    assert "gone" not in book.what()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(":method", "GET"), *HEADERS[1:]], "405"),
        ([*HEADERS[:-1], ("content-type", "application/json")], "415"),
        (HEADERS[:-1], "415"),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_what_is_not_grpc_is_answered_in_the_words_of_http(headers: Any, status: str, end: bool) -> None:
    book = Book()
    peer = Peer(book.open)
    stream = peer.call(headers=headers, end=end)
    peer.exchange()
    [response] = seen(peer.events, h2.events.ResponseReceived, stream)
    assert dict(response.headers)[":status"] == status
    assert response.stream_ended
    assert book.log == []
    assert peer.connection.streams == 0


def test_an_unknown_method_is_unimplemented() -> None:
    peer = Peer(Book().open, paths={"/other/Path": Book().open})
    stream = peer.call(b"x", end=True)
    peer.exchange()
    assert peer.status(stream)["grpc-status"] == "12"
    assert peer.status(stream)["grpc-message"] == f"there is no method {PATH}"


def test_methods_are_told_apart_by_their_path() -> None:
    one, two = Book(), Book()
    peer = Peer(one.open, paths={PATH: one.open, "/a/B": two.open})
    peer.call(b"1")
    peer.call(b"2", headers=[*HEADERS[:2], (":path", "/a/B"), *HEADERS[3:]])
    peer.exchange()
    assert [book.log[1] for book in (one, two)] == [(0, "message", b"1"), (0, "message", b"2")]


def test_trailers_of_the_peer_end_its_side() -> None:
    book = Echoes()
    peer = Peer(book.open)
    stream = peer.call(b"x")
    peer.client.send_headers(stream, [("late", "news")], end_stream=True)
    peer.exchange()
    assert book.what() == ["open", "message", "half_closed"]
    assert peer.status(stream)["grpc-status"] == "0"


def test_a_stream_that_ends_within_a_message_fails_alone() -> None:
    book = Book()
    peer = Peer(book.open)
    broken, whole = peer.call(), peer.call(b"fine")
    peer.client.send_data(broken, message(b"whole") + message(b"cut")[:-1], end_stream=True)
    peer.exchange()
    assert peer.status(broken)["grpc-status"] == "13"
    assert [entry[:2] for entry in book.log if entry[0] == 0] == [(0, "open"), (0, "message"), (0, "gone")]
    assert peer.connection.streams == 1
    book.sessions[1].stream.finish()
    peer.exchange()
    assert peer.status(whole)["grpc-status"] == "0"


def test_a_message_over_the_limit_ends_its_stream() -> None:
    book = Book()
    peer = Peer(book.open, Limits(message=10))
    stream = peer.call(b"eleven long")
    peer.exchange()
    assert peer.status(stream)["grpc-status"] == "8"
    assert book.what() == ["open", "gone"]


def test_a_reset_reaches_the_session_and_only_its_own() -> None:
    book = Book()
    peer = Peer(book.open)
    streams = [peer.call(b"x") for _ in range(3)]
    peer.exchange()
    peer.client.reset_stream(streams[1], 8)
    peer.exchange()
    assert [entry for entry in book.log if entry[1] == "gone"] == [(1, "gone")]
    book.sessions[1].stream.send(b"nobody listens")
    book.sessions[1].stream.finish()
    assert peer.connection.take() == b""
    assert peer.connection.streams == 2


def test_a_lost_connection_reaches_every_session_once() -> None:
    book = Book()
    peer = Peer(book.open)
    for _ in range(3):
        peer.call(b"x")
    peer.exchange()
    book.sessions[0].stream.finish()
    peer.connection.lost()
    peer.connection.lost()
    assert [entry for entry in book.log if entry[1] == "gone"] == [(1, "gone"), (2, "gone")]


@pytest.mark.parametrize("where", ["open", "message", "half_closed"])
def test_a_session_that_fails_ends_its_own_stream(where: str, caplog: pytest.LogCaptureFixture) -> None:
    book = Echoes()

    def fail(*_: object) -> None:
        raise ValueError("a bug")

    def failing(stream: Stream) -> Any:
        if where == "open":
            fail()
        session = Book.open(book, stream)
        setattr(session, where, fail)
        return session

    peer = Peer(book.open, paths={PATH: failing, "/fine/Fine": book.open})
    bad = peer.call(b"x", end=True)
    good = peer.call(b"y", end=True, headers=[*HEADERS[:2], (":path", "/fine/Fine"), *HEADERS[3:]])
    peer.exchange()
    assert peer.status(bad).get("grpc-status") == "13"
    assert peer.status(good)["grpc-status"] == "0"
    assert "a bug" in caplog.text
    assert ("gone" in book.what()) is (where != "open"), "a session that was made learns that it is over"


def test_a_session_may_answer_while_it_is_made() -> None:
    book = Book()

    def at_once(stream: Stream) -> Any:
        stream.send(b"at once")
        stream.finish()
        return book.open(stream)

    peer = Peer(at_once)
    stream = peer.call(b"x", end=True)
    peer.exchange()
    assert peer.messages(stream) == [b"at once"]
    assert book.what() == ["open"]


def test_pings_are_answered_and_settings_acknowledged() -> None:
    peer = Peer(Book().open)
    peer.exchange()
    peer.client.ping(b"12345678")
    peer.client.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: 1 << 20})
    events = peer.exchange()
    assert [event.ping_data for event in events if isinstance(event, h2.events.PingAckReceived)] == [b"12345678"]
    assert any(isinstance(event, h2.events.SettingsAcknowledged) for event in events)


def test_the_first_block_says_that_we_use_no_table() -> None:
    """So that a strict decoder is content, whatever size it sets for the table at whatever time."""
    peer = Peer(Echoes().open)
    for size in (0, 4096, 100):
        peer.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size})
        peer.exchange()
        stream = peer.call(b"x", end=True)
        peer.exchange()
        assert peer.status(stream)["grpc-status"] == "0"


def test_a_header_block_may_come_in_pieces_and_padded() -> None:
    book = Book()
    connection = raw(book.open)
    padded = b"\x04" + b"\0\0\0\0\x10" + BLOCK[:7] + b"PPPP"
    flags = frames.PADDED | frames.HAS_PRIORITY
    connection.receive(frame(frames.HEADERS, flags, 1, padded), 0.0)
    for at in range(7, len(BLOCK)):
        connection.receive(frame(frames.CONTINUATION, 0, 1, BLOCK[at : at + 1]), 0.0)
        if at == 20:
            break
    connection.receive(frame(frames.CONTINUATION, frames.END_HEADERS, 1, BLOCK[21:]), 0.0)
    connection.receive(frame(frames.DATA, frames.PADDED, 1, b"\x02" + message(b"x") + b"PP"), 0.0)
    assert book.what() == ["open", "message"]


def test_a_peer_that_says_goodbye_still_gets_its_answers() -> None:
    book = Echoes()
    peer = Peer(book.open)
    stream = peer.call(b"x")
    peer.connection.receive(peer.client.data_to_send(), 0.0)
    peer.connection.receive(frames.goaway(0, frames.ErrorCode.NO_ERROR), 0.0)
    peer.connection.receive(frame(frames.DATA, frames.END_STREAM, stream, message(b"y")), 0.0)
    assert book.what() == ["open", "message", "message", "half_closed"]
    assert not peer.connection.ended


SCRIPT = (
    PREFACE
    + settings_frame({Setting.INITIAL_WINDOW_SIZE: 1000})
    + frame(frames.HEADERS, frames.END_HEADERS, 1, BLOCK)
    + frame(frames.DATA, 0, 1, message(b"first")[:3])
    + frame(frames.PING, 0, 0, b"12345678")
    + frame(frames.HEADERS, frames.END_HEADERS, 3, BLOCK)
    + frame(frames.DATA, frames.END_STREAM, 3, message(b"other") + message(b""))
    + frame(frames.DATA, frames.PADDED, 1, b"\x03" + message(b"first")[3:] + message(b"x" * 900) + b"PPP")
    + frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\x10\0")
    + frame(frames.HEADERS, 0, 5, BLOCK[:5])
    + frame(frames.CONTINUATION, frames.END_HEADERS, 5, BLOCK[5:])
    + frame(frames.RST_STREAM, 0, 5, b"\0\0\0\x08")
    + frame(0x77, 0xFF, 9, b"unknown")
    + frame(frames.DATA, frames.END_STREAM, 1, message(b"y" * 2000))
    + frame(frames.DATA, 0, 7, b"never opened")
)


def run(pieces: list[bytes]) -> tuple[list[Any], bytes]:
    book = Echoes()
    connection = ServerConnection({PATH: book.open}, lambda: None, Limits())
    out = b""
    for piece in pieces:
        connection.receive(piece, 0.0)
        out += connection.take()
    return book.log, out


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=60))
def test_the_same_bytes_mean_the_same_however_they_are_cut(places: list[int]) -> None:
    edges = [0, *sorted(places), len(SCRIPT)]
    log, out = run([SCRIPT[a:b] for a, b in itertools.pairwise(edges)])
    expected_log, expected_out = WHOLE
    assert log == expected_log
    # Bodies that wait for a window may be cut elsewhere, so the frames are compared by stream.
    assert by_stream(out) == by_stream(expected_out)


def by_stream(out: bytes) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for kind, flags, number, payload in frames_of(out):
        entry = found.setdefault(number, [b"", []])
        if kind == frames.DATA:
            entry[0] += payload
        else:
            # The block that is written first carries one byte more.
            entry[1].append((kind, flags, payload.lstrip(b"\x20") if kind == frames.HEADERS else payload))
    return found


WHOLE = run([SCRIPT])


def test_the_script_gets_as_far_as_its_last_frame() -> None:
    log, out = WHOLE
    assert [entry[1] for entry in log if entry[0] == 0] == ["open", *["message"] * 3, "half_closed"]
    assert [entry[1] for entry in log if entry[0] == 2] == ["open", "gone"]
    assert frames_of(out)[-1][0] == frames.GOAWAY
