"""Calls of our own as they go out, and what is made of the replies."""

import zlib

import hpack
import pytest

from ext_proc.http2.client_stream import HttpResponse
from ext_proc.http2.headers import Headers
from ext_proc.upstream.client import Request, UpstreamError, grpc_response, header_block, rest_response
from ext_proc.wire.framing import frame

LIMIT = 1000
GRPC: Headers = (("content-type", b"application/grpc"), ("x-tbms-upstream", b"10.0.0.1:8500"), ("x-initial", b"1"))
OK: Headers = (("grpc-status", b"0"),)


def request(is_grpc: bool, timeout: float = 0.05, headers: Headers = (), body: bytes = b"body") -> Request:
    return Request("/the/path", "POST", "models.local", headers, (body,), timeout, is_grpc)


def fields(made: Request) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in hpack.Decoder().decode(header_block(made))]


def test_a_rest_call_tells_its_length_and_keeps_its_headers() -> None:
    sent: Headers = (("x-mine", "é".encode("latin-1")), ("user-agent", b"client"), ("connection", b"x"), ("te", b"x"))
    decoded = hpack.Decoder().decode(header_block(request(False, headers=sent)), raw=True)
    assert decoded == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/the/path"),
        (b":authority", b"models.local"),
        (b"x-mine", b"\xe9"),
        (b"user-agent", b"client"),
        (b"content-length", b"4"),
    ]


def test_a_rest_call_without_a_body_has_no_length() -> None:
    assert "content-length" not in dict(fields(request(False, body=b"")))


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.05, "50000u"), (0.0000001, "1u"), (99.999, "99999000u"), (100.0, "100000m"), (1e9, "99999999m")],
)
def test_a_grpc_call_tells_its_deadline_in_eight_digits(seconds: float, written: str) -> None:
    told = dict(fields(request(True, seconds)))
    assert (told["grpc-timeout"], told["te"], told["grpc-accept-encoding"]) == (written, "trailers", "identity")


def test_a_rest_reply_without_what_belongs_to_the_hop() -> None:
    headers: Headers = (("x-tbms-upstream", b"10.0.0.1:8501"), ("content-length", b"2"), ("x-mine", b"1"))
    response = rest_response(HttpResponse(404, headers, b"{}", ()))
    assert (response.status, response.headers, response.body) == (404, (("x-mine", b"1"),), b"{}")
    assert (response.trailers, response.node, response.ok) == (None, "10.0.0.1:8501", False)


def test_a_grpc_answer() -> None:
    trailers: Headers = (*OK, ("x-last", b"2"), ("x-last", b"3"))
    response = grpc_response(HttpResponse(200, GRPC, frame(b"message"), trailers), LIMIT)
    assert (response.body, response.grpc_status, response.ok) == (b"message", 0, True)
    assert response.headers == (("x-initial", b"1"),)
    assert response.trailers == trailers
    assert response.node == "10.0.0.1:8500"


def test_a_status_alone_keeps_its_words_and_its_metadata() -> None:
    words: Headers = (("grpc-message", b"gone%21"), ("grpc-status", b"5"), ("grpc-status-details-bin", b"AAE"))
    response = grpc_response(HttpResponse(200, GRPC + words, b"", ()), LIMIT)
    assert (response.grpc_status, response.ok, response.headers) == (5, False, ())
    assert response.trailers == (
        ("grpc-status", b"5"),
        ("grpc-message", b"gone%21"),
        ("x-initial", b"1"),
        ("grpc-status-details-bin", b"AAE"),
    )
    assert response.node == "10.0.0.1:8500"


def test_an_answer_that_came_packed_is_handed_on_plain() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"m" * 100) + packer.flush()
    body = b"\x01" + len(packed).to_bytes(4, "big") + packed
    response = grpc_response(HttpResponse(200, (*GRPC, ("grpc-encoding", b"gzip")), body, OK), LIMIT)
    assert response.body == b"m" * 100
    assert "grpc-encoding" not in dict(response.headers)


@pytest.mark.parametrize(
    "body", [b"", b"\0\0", frame(b"a") + frame(b"b"), frame(b"a" * 1001), b"\x01\0\0\0\1x", b"\x07\0\0\0\0"]
)
def test_an_answer_that_cannot_be_read_is_the_candidates_failure(body: bytes) -> None:
    with pytest.raises(UpstreamError, match="the answer cannot be read"):
        grpc_response(HttpResponse(200, GRPC, body, OK), LIMIT)


@pytest.mark.parametrize(("status", "code"), [(404, 12), (503, 14), (429, 14), (403, 7), (500, 2), (200, 2)])
def test_an_answer_without_a_grpc_status_has_that_of_its_http_status(status: int, code: int) -> None:
    response = grpc_response(HttpResponse(status, (("content-type", b"text/html"),), b"<html>", ()), LIMIT)
    assert response.grpc_status == code
    assert dict(response.trailers or ())["grpc-status"] == b"%d" % code


@pytest.mark.parametrize("status", [b"", b"-1", b"x", b"1000", "²".encode("latin-1")])
def test_a_status_that_is_none_is_unknown(status: bytes) -> None:
    assert grpc_response(HttpResponse(200, GRPC, b"", (("grpc-status", status),)), LIMIT).grpc_status == 2
