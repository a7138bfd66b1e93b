"""Headers become gRPC metadata and come back; what gRPC has no words for is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.transport.metadata import from_metadata, to_metadata, write_status


def test_what_belongs_to_the_hop_or_the_library_stays_behind() -> None:
    headers = tuple(
        (name, b"x") for name in ("te", "content-type", "user-agent", "grpc-timeout", "connection", "x-mine")
    )
    assert list(to_metadata(headers)) == [("x-mine", "x")]


@pytest.mark.parametrize(("name", "value"), [("x!odd", b"1"), ("x-text", "ü".encode()), ("x-control", b"a\x01b")])
def test_what_grpc_cannot_say_is_left_out(name: str, value: bytes) -> None:
    assert list(to_metadata(((name, value),))) == []


def test_binary_lines_that_were_joined_are_parted() -> None:
    assert list(to_metadata((("x-bin", b"AAEC, /w"),))) == [("x-bin", b"\x00\x01\x02"), ("x-bin", b"\xff")]


@pytest.mark.parametrize("value", [b"!!", b"A", b"\xff"])
def test_broken_base64_is_the_clients_fault(value: bytes) -> None:
    with pytest.raises(CallError) as refused:
        list(to_metadata((("x-bin", value),)))
    assert refused.value.reason is Reason.INVALID
    assert "x-bin" in refused.value.message


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_binary_values_survive_the_way_there_and_back(values: list[bytes]) -> None:
    headers = from_metadata([("x-bin", value) for value in values])
    assert list(to_metadata(headers)) == [("x-bin", value) for value in values]


def test_the_status_of_an_answer_is_told_once() -> None:
    metadata = [("grpc-status", "5"), ("grpc-message", "gone"), ("x-mine", "1"), ("trailer", "x")]
    assert from_metadata(metadata) == (("x-mine", b"1"),)
    assert from_metadata(None) == ()


@given(st.text(max_size=60))
def test_any_message_is_legal_in_a_trailer(text: str) -> None:
    status = dict(write_status(3, text))
    assert status["grpc-status"] == b"3"
    written = status.get("grpc-message", b"")
    assert all(0x20 <= byte <= 0x7E for byte in written)
    assert bool(written) is bool(text)


def test_a_plain_message_stays_readable() -> None:
    assert dict(write_status(4, "no model answered: 50%"))["grpc-message"] == b"no model answered: 50%25"
