"""The first message read in one pass says what protobuf says, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.processing.first_message import read
from ext_proc.processing.request import StreamError, head_of, parse, plain_head
from ext_proc.protos.ext_proc_pb2 import HeaderMap, HeaderValue, HttpHeaders, ProcessingRequest, ProtocolConfiguration
from tests.ext_proc.processing.envoy_says import MODES, headers

NAMES = st.text("abc-:", min_size=1, max_size=8) | st.just("n" * 300)
VALUES = st.binary(max_size=24) | st.sampled_from([b"v" * 127, b"v" * 128, b"\xff" * 20_000])


@st.composite
def messages(draw: st.DrawFn) -> ProcessingRequest:
    """First messages, those that Envoy does not write among them."""
    pairs = draw(st.lists(st.tuples(NAMES, VALUES), max_size=6))
    request = HttpHeaders(
        headers=HeaderMap(headers=[HeaderValue(key=key, raw_value=value) for key, value in pairs]),
        end_of_stream=draw(st.booleans()),
    )
    message = ProcessingRequest(request_headers=request)
    if draw(st.booleans()):
        message.protocol_config.CopyFrom(
            ProtocolConfiguration(
                request_body_mode=draw(st.sampled_from([0, 2, 4])),
                response_body_mode=draw(st.sampled_from([0, 4])),
                send_body_without_waiting_for_header_response=draw(st.booleans()),
            )
        )
    if draw(st.booleans()):
        message.attributes["filter"].fields["a"].string_value = "b"
    return message


def told(data: bytes) -> tuple[object, ...] | None:
    """What protobuf reads of a first message; None where it reads none."""
    try:
        message = parse(data)
        if message.WhichOneof("request") != "request_headers":
            return None
        head = head_of(message)
    except StreamError:
        return None
    return head.headers, head.repeated, head.end_of_stream, head.mode


def seen(data: bytes) -> tuple[object, ...] | None:
    try:
        head = plain_head(data)
    except StreamError:
        return None
    return None if head is None else (head.headers, head.repeated, head.end_of_stream, head.mode)


@given(messages(), st.data())
def test_it_says_what_protobuf_says_or_nothing(message: ProcessingRequest, data: st.DataObject) -> None:
    whole = message.SerializeToString()
    assert seen(whole) in (None, told(whole))
    whole += data.draw(st.sampled_from([b"", b"B\0", b"B\x02\x0a\0", b"B\x81\x01" + b"x" * 129]))  # metadata_context
    assert seen(whole) in (None, told(whole))
    place = data.draw(st.integers(0, len(whole) - 1))
    for broken in (
        whole[:place],
        whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :],
        whole[:place] + whole[place + 1 :],
        whole + whole,
    ):
        assert seen(broken) in (None, told(broken))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", [True, False])
def test_what_envoy_writes_is_read(mode: str, end: bool) -> None:
    values = {":path": "/v1/models/m:predict", "x-empty": "", "x-long": "v" * 300, "authorization": "b" * 17_000}
    data = headers(values, mode, end)
    head = plain_head(data)
    assert head is not None
    assert (head.headers, head.end_of_stream, head.mode.value) == (
        values,
        end,
        parse(data).protocol_config.request_body_mode,
    )


@pytest.mark.parametrize(
    "message",
    [
        ProcessingRequest(request_headers=HttpHeaders(headers=HeaderMap(headers=[HeaderValue(key="a", value="b")]))),
        ProcessingRequest(
            request_headers=HttpHeaders(headers=HeaderMap(headers=[HeaderValue(key="a", raw_value=b"b")] * 2))
        ),
        ProcessingRequest(response_headers=HttpHeaders(headers=HeaderMap(headers=[HeaderValue(key="a")]))),
        ProcessingRequest(request_headers=HttpHeaders(headers=HeaderMap(headers=[HeaderValue(key="\u00e9")]))),
        ProcessingRequest(),
    ],
    ids=["value", "repeated", "reply", "no ASCII", "empty"],
)
def test_what_it_does_not_know_is_left(message: ProcessingRequest) -> None:
    assert read(message.SerializeToString()) is None
