"""Our client's side against an independent server: whole replies, windows, and everything that can break off."""

from typing import Any

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2 import frames
from ext_proc.http2.client_stream import Broken, HttpResponse
from ext_proc.http2.frames import ErrorCode, frame
from ext_proc.http2.hpack_literals import literal
from ext_proc.http2.limits import Limits
from tests.ext_proc.http2.peer import frames_of
from tests.ext_proc.http2.service import BLOCK, OK, Service


def test_a_request_and_its_reply() -> None:
    service = Service()
    exchange = service.ask(b"head", b"", b"body")
    service.exchange()
    asked = service.asked[exchange.id]
    assert asked.headers == [
        (":method", "POST"), (":scheme", "http"), (":path", "/v1/models/m:predict"), (":authority", "models"),
        ("x-mine", "1"),
    ]  # fmt: skip
    assert (asked.body, asked.ended) == (b"headbody", True)
    service.reply(exchange.id, OK, b"answer", [("grpc-status", "0")])
    headers = ((("content-type", b"application/json"),), (("grpc-status", b"0"),))
    assert service.outcomes == {exchange.id: HttpResponse(200, headers[0], b"answer", headers[1])}
    assert service.connection.streams == 0
    assert asked.reset is None


def test_a_request_without_a_body_ends_with_its_headers() -> None:
    service = Service()
    exchange = service.ask()
    service.exchange()
    assert service.asked[exchange.id].ended


def test_a_reply_of_headers_only() -> None:
    service = Service()
    exchange = service.ask(b"x")
    service.exchange()
    service.reply(exchange.id, [(":status", "503"), ("retry-after", "1")])
    assert service.outcomes[exchange.id] == HttpResponse(503, (("retry-after", b"1"),), b"", ())


def test_informational_headers_are_passed_over() -> None:
    service = Service()
    exchange = service.ask(b"x")
    service.exchange()
    service.server.send_headers(exchange.id, [(":status", "103"), ("link", "x")])
    service.reply(exchange.id, OK, b"answer")
    reply = service.outcomes[exchange.id]
    assert isinstance(reply, HttpResponse)
    assert (reply.status, reply.body) == (200, b"answer")


def test_streams_have_numbers_of_their_own() -> None:
    service = Service()
    numbers = [service.ask(b"%d" % each).id for each in range(3)]
    service.exchange()
    for number in reversed(numbers):
        service.reply(number, OK, service.asked[number].body)
    bodies = [reply.body for number in numbers if isinstance(reply := service.outcomes[number], HttpResponse)]
    assert bodies == [b"0", b"1", b"2"]


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=4),
    st.lists(st.integers(0, 200_000), min_size=4, max_size=4),
    st.sampled_from([999, 65_535, 200_000]),
)
def test_bodies_of_any_size_go_through_any_window(sizes: list[int], answers: list[int], window: int) -> None:
    service = Service(Limits(stream_window=32_768, connection_window=100_000), initial_window_size=window)
    exchanges = [service.ask(bytes([number]) * size) for number, size in enumerate(sizes)]
    service.exchange()
    for number, (exchange, size) in enumerate(zip(exchanges, sizes, strict=True)):
        assert service.asked[exchange.id].body == bytes([number]) * size
        assert service.asked[exchange.id].ended
        service.reply(exchange.id, OK, b"a" * answers[number])
        reply = service.outcomes[exchange.id]
        assert isinstance(reply, HttpResponse)
        assert reply.body == b"a" * answers[number]


def test_a_header_block_larger_than_a_frame_goes_out_in_several() -> None:
    service = Service()
    exchange = service.ask(b"x", block=BLOCK + literal(b"x-long", b"v" * 40_000))
    out = service.connection.take()
    kinds = [kind for kind, _, _, _ in frames_of(out)]
    assert kinds.count(frames.CONTINUATION) == 2
    service.server.max_inbound_frame_size = 1 << 20
    service.server.decoder.max_header_list_size = 1 << 20
    service._note(service.server.receive_data(out))
    assert dict(service.asked[exchange.id].headers)["x-long"] == "v" * 40_000
    assert service.asked[exchange.id].ended


def test_giving_up_resets_the_stream_and_nothing_else() -> None:
    service = Service()
    lost, kept = service.ask(b"a"), service.ask(b"b")
    service.exchange()
    lost.give_up()
    lost.give_up()
    service.exchange()
    assert service.asked[lost.id].reset == ErrorCode.CANCEL
    service.reply(kept.id, OK, b"answer")
    assert list(service.outcomes) == [kept.id]


def test_what_comes_for_a_stream_that_was_given_up_does_no_harm() -> None:
    service = Service()
    lost, kept = service.ask(b"a"), service.ask(b"b")
    service.exchange()
    encoder = hpack.Encoder()
    lost.give_up()
    block = encoder.encode([(":status", "200"), ("x-table", "one")])
    service.connection.receive(
        frame(frames.HEADERS, frames.END_HEADERS, lost.id, block)
        + frame(frames.DATA, frames.END_STREAM, lost.id, b"x"),
        0.0,
    )
    # The table went on: what is indexed in it is understood on the next stream.
    block = encoder.encode([(":status", "200"), ("x-table", "one")])
    service.connection.receive(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, kept.id, block), 0.0)
    assert service.outcomes == {kept.id: HttpResponse(200, (("x-table", b"one"),), b"", ())}


def test_a_request_that_is_given_up_half_way_stops() -> None:
    service = Service()
    service.grants = False
    lost = service.ask(b"a" * 200_000)
    service.exchange()
    assert 0 < len(service.asked[lost.id].body) < 200_000
    lost.give_up()
    service.exchange()
    assert service.asked[lost.id].reset == ErrorCode.CANCEL
    assert not service.connection.unsent


def test_a_reply_before_the_end_of_the_request_stops_the_request() -> None:
    service = Service()
    service.grants = False
    exchange = service.ask(b"a" * 200_000)
    service.exchange()
    service.reply(exchange.id, [(":status", "413")])
    reply = service.outcomes[exchange.id]
    assert isinstance(reply, HttpResponse)
    assert reply.status == 413
    service.exchange()
    assert service.asked[exchange.id].reset == ErrorCode.NO_ERROR


def test_a_reply_over_the_limit_is_cut_off() -> None:
    service = Service()
    exchange = service.ask(b"x", limit=100)
    service.exchange()
    service.server.send_headers(exchange.id, OK)
    service.server.send_data(exchange.id, b"a" * 101)
    service.exchange()
    assert service.outcomes[exchange.id] == Broken("the answer is over the limit of 100 bytes")
    assert service.asked[exchange.id].reset == ErrorCode.CANCEL


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ErrorCode.REFUSED_STREAM, Broken("the stream was reset: REFUSED_STREAM", unprocessed=True)),
        (ErrorCode.INTERNAL_ERROR, Broken("the stream was reset: INTERNAL_ERROR")),
        (0x77, Broken("the stream was reset: code 119")),
    ],
)
def test_a_reset_says_whether_anything_was_done(code: int, told: Broken) -> None:
    service = Service()
    exchange = service.ask(b"x")
    service.exchange()
    service.server.reset_stream(exchange.id, code)
    service.exchange()
    assert service.outcomes == {exchange.id: told}


def test_a_connection_that_goes_away_takes_no_more_and_ends_with_its_last_stream() -> None:
    service = Service()
    first, second = service.ask(b"a"), service.ask(b"b")
    service.exchange()
    assert service.connection.has_room
    service.raw(frames.goaway(first.id, ErrorCode.NO_ERROR))
    assert not service.connection.has_room
    assert service.outcomes == {second.id: Broken("the connection is going away", unprocessed=True)}
    assert not service.connection.ended
    service.raw(frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, first.id, hpack.Encoder().encode(OK)))
    assert isinstance(service.outcomes[first.id], HttpResponse)
    assert service.connection.ended


def test_a_lost_connection_is_told_to_every_request_once() -> None:
    service = Service()
    first, second = service.ask(b"a"), service.ask(b"b")
    service.exchange()
    service.connection.lost()
    service.connection.lost()
    assert service.outcomes == dict.fromkeys((first.id, second.id), Broken("the stream was reset: CANCEL"))
    assert not service.connection.has_room


def test_the_peer_says_how_many_it_takes() -> None:
    service = Service(max_concurrent_streams=2)
    service.exchange()
    first = service.ask(b"a")
    assert service.connection.has_room
    service.ask(b"b")
    assert not service.connection.has_room
    service.exchange()
    service.reply(first.id)
    assert service.connection.has_room


STATUS = [(":status", "200")]


@pytest.mark.parametrize(
    "head",
    [
        [("content-type", "x")],
        [(":status", "2000")],
        [(":status", "２００")],
        [("x", "1"), (":status", "200")],
        [(":status", "200"), (":status", "200")],
        [(":status", "200"), ("X-Capital", "1")],
        [(":status", "200"), ("x-control", "a\nb")],
        [(":status", "200"), (":path", "/")],
        [(":status", "099")],
        [(":status", "101")],
    ],
)
def test_a_malformed_head_ends_its_stream_only(head: Any) -> None:
    service = Service()
    bad, good = service.ask(b"a"), service.ask(b"b")
    encoder = hpack.Encoder()
    ends = frames.END_HEADERS | frames.END_STREAM
    service.raw(frame(frames.HEADERS, ends, bad.id, encoder.encode(head)))
    assert service.outcomes == {bad.id: Broken("the stream was reset: PROTOCOL_ERROR")}
    service.raw(frame(frames.HEADERS, ends, good.id, encoder.encode(OK)))
    assert isinstance(service.outcomes[good.id], HttpResponse)


@pytest.mark.parametrize(
    "script",
    [
        [(frames.DATA, 0, b"x")],
        [(frames.DATA, frames.END_STREAM, b"")],
        [(frames.HEADERS, frames.END_HEADERS, STATUS), (frames.HEADERS, frames.END_HEADERS, [("x", "1")])],
        [(frames.HEADERS, frames.END_HEADERS, STATUS), (frames.HEADERS, frames.END_HEADERS | 1, STATUS)],
    ],
    ids=["body-first", "end-first", "trailers-go-on", "two-statuses"],
)
def test_frames_out_of_order_end_the_stream(script: Any) -> None:
    service = Service()
    exchange = service.ask(b"a")
    encoder = hpack.Encoder()
    for kind, flags, what in script:
        payload = encoder.encode(what) if kind == frames.HEADERS else what
        service.raw(frame(kind, flags, exchange.id, payload))
    assert service.outcomes == {exchange.id: Broken("the stream was reset: PROTOCOL_ERROR")}
    assert not service.connection.ended


@pytest.mark.parametrize(
    "data",
    [
        frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2"),
        frame(frames.HEADERS, frames.END_HEADERS, 2, b"\x88"),
        frame(frames.HEADERS, frames.END_HEADERS, 99, b"\x88"),
        frame(frames.DATA, 0, 99, b"x"),
        frame(frames.RST_STREAM, 0, 99, b"\0\0\0\0"),
        frame(frames.GOAWAY, 0, 0, b"short"),
        frame(frames.GOAWAY, 0, 1, bytes(8)),
        frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
    ],
)
def test_what_breaks_the_connection_is_told_to_every_request(data: bytes) -> None:
    service = Service()
    exchange = service.ask(b"a")
    service.raw(data)
    assert service.connection.ended
    assert isinstance(service.outcomes[exchange.id], Broken)
    assert frames_of(service.connection.take())[-1][0] == frames.GOAWAY


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    service = Service()
    service.ask(b"a")
    service.raw(data)
    service.connection.take()


def test_shutting_down_waits_for_what_is_under_way() -> None:
    service = Service()
    exchange = service.ask(b"a")
    service.exchange()
    service.connection.shut_down()
    assert not service.connection.ended
    service.reply(exchange.id)
    assert service.connection.ended


def test_ending_tells_every_request() -> None:
    service = Service()
    exchange = service.ask(b"a")
    service.connection.end()
    assert service.connection.ended
    assert isinstance(service.outcomes[exchange.id], Broken)


@pytest.mark.parametrize("trailers", [False, True])
def test_a_reply_whose_headers_are_too_much_ends_its_request_and_no_other(trailers: bool) -> None:
    service = Service()
    first, second = service.ask(), service.ask()
    service.exchange()
    over = [("x", "y" * 70_000)]
    if trailers:
        service.server.send_headers(first.id, OK)
        service.server.send_headers(first.id, over, end_stream=True)
    else:
        service.server.send_headers(first.id, [*OK, *over])
    service.exchange()
    assert service.outcomes == {first.id: Broken("the headers of the answer are over the limit of 65536 bytes")}
    service.reply(second.id, [*OK, ("kept", "in step")])
    outcome = service.outcomes[second.id]
    assert isinstance(outcome, HttpResponse)
    assert dict(outcome.headers)["kept"] == b"in step"
    if not trailers:
        assert service.asked[first.id].reset == ErrorCode.CANCEL
