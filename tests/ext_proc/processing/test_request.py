"""What Envoy says, as plain values."""

import pytest

from ext_proc.processing.request import NEWEST, StreamError, head_of, parse, read_version
from ext_proc.protos.ext_proc_pb2 import HeaderMap, HeaderValue, HttpHeaders, ProcessingRequest
from tests.ext_proc.processing.envoy_says import headers

PATH = {":path": "/v1/models/m:predict"}


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (None, None),
        ("1970-01-01T00:00:01.5+00:00", 1.5),
        ("2026-11-22T09:31:06.155232+00:00", 1795339866.155232),
        ("2026-11-22T09:31:06.155232111Z", 1795339866.155232),
        ("2026-11-22T09:31:06", None),
    ],
)
def test_when_envoy_got_the_request(told: str | None, seconds: float | None) -> None:
    assert head_of(parse(headers(PATH, time=told))).received == seconds


@pytest.mark.parametrize("told", ["", "now", "2026-13-01T00:00:00Z"])
def test_a_time_that_is_none_is_a_broken_stream(told: str) -> None:
    with pytest.raises(StreamError, match=r"request\.time"):
        head_of(parse(headers(PATH, time=told)))


def test_repeated_names_are_one_list_and_stay_lines() -> None:
    request = HttpHeaders(
        headers=HeaderMap(
            headers=[HeaderValue(key=key, raw_value=value) for key, value in
                     ((":path", b"/v1"), ("k-bin", b"AQ"), ("one", b"1"), ("k-bin", b"Ag"), ("k-bin", b"Aw"))]
        )
    )  # fmt: skip
    head = head_of(ProcessingRequest(request_headers=request))
    assert head.headers == {":path": "/v1", "k-bin": "AQ, Ag, Aw", "one": "1"}
    assert head.repeated == {"k-bin": ("AQ", "Ag", "Aw")}
    assert head_of(parse(headers(PATH))).repeated == {}


@pytest.mark.parametrize("text", ["\u00b2.1", "\u0663.38", "1.\u00b2", "1", "", "x.y", "1.38888", "1.-1"])
def test_what_is_no_version_is_the_newest(text: str) -> None:
    assert read_version(text) == NEWEST


def test_a_version() -> None:
    assert [read_version(text) for text in ("1.38.3", "1.36")] == [(1, 38), (1, 36)]
