"""What Envoy says, as plain values."""

import pytest

from ext_proc.processing.request import StreamError, head_of, parse
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
