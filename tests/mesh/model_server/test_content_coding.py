"""Which content coding an answer gets: RFC 9110, section 12.5.3."""

import pytest

from mesh.model_server.content_coding import preferred


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0.5, identity", None),
        ("gzip, identity;q=0.5", "gzip"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=0, *", "deflate"),
        ("gzip;q=2", None),
        ("gzip;q=nonsense", None),
        ("gzip;level=9", None),
        ("br, gzipped", None),
    ],
)
def test_the_coding_that_the_client_wants_most(accept: str, coding: str | None) -> None:
    assert preferred(accept) == coding
