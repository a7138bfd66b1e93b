"""A status as trailers tell it."""

from hypothesis import given
from hypothesis import strategies as st

from ext_proc.upstream.headers import write_status


@given(st.text(max_size=60))
def test_any_message_is_legal_in_a_trailer(text: str) -> None:
    status = dict(write_status(3, text))
    assert status["grpc-status"] == b"3"
    written = status.get("grpc-message", b"")
    assert all(0x20 <= byte <= 0x7E for byte in written)
    assert bool(written) is bool(text)


def test_a_plain_message_stays_readable() -> None:
    assert dict(write_status(4, "no model answered: 50%"))["grpc-message"] == b"no model answered: 50%25"
