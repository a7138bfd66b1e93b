import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError
from ext_proc.wire.protobuf.fields import START_GROUP, VARINT, len_field, varint_field, walk
from ext_proc.wire.protobuf.spans import content, grouped, integer, integers, packed, rest, run, spans, take, take_one
from tests.ext_proc.wire.batching import UNKNOWN


@given(UNKNOWN, st.binary(max_size=20), st.binary(max_size=20))
def test_spans_are_the_fields_that_are_walked(message: bytes, before: bytes, after: bytes) -> None:
    at = len(before)
    found = spans(before + message + after, at, at + len(message))
    walked = [
        (field.number << 3 | field.wire, field.start + at, field.body + at, field.end + at) for field in walk(message)
    ]
    assert found == walked


@given(st.binary(max_size=30))
def test_what_is_no_message_for_one_is_none_for_the_other(data: bytes) -> None:
    """But for groups, which have no span."""
    try:
        walked = [field.end for field in walk(data)]
    except CallError:
        with pytest.raises(CallError):
            spans(data, 0, len(data))
    else:
        if not any(field.wire == START_GROUP for field in walk(data)):
            assert [span[3] for span in spans(data, 0, len(data))] == walked


def test_no_more_fields_than_the_limit() -> None:
    assert len(spans(b"\x10\x01" * 5, 0, 10, 5)) == 5
    with pytest.raises(CallError, match="more than 4 fields at byte 8"):
        spans(b"\x10\x01" * 5, 0, 10, 4)


def test_fields_are_taken_out() -> None:
    data = varint_field(3, 1) + len_field(9, b"x") + len_field(3, b"\x02\x03") + len_field(9, b"y") + varint_field(4, 5)
    groups = grouped(data, 0, len(data))
    with pytest.raises(CallError, match="field 9 comes twice"):
        take_one(dict(groups), 9)
    (four,) = take_one(groups, 4, VARINT)
    assert integer(data, four) == 5
    threes = take(groups, 3, VARINT)
    assert bytes(packed(data, threes)) == b"\x01\x02\x03"
    assert rest(data, groups) == len_field(9, b"x") + len_field(9, b"y")
    assert bytes(run(data, take(groups, 9))) == len_field(9, b"x") + len_field(9, b"y")
    assert take(groups, 9) == take_one(groups, 9) == []
    assert content(data, []) == b""


def test_what_stands_together_is_no_copy() -> None:
    data = len_field(9, b"xyz") + len_field(9, b"y")
    together = run(data, spans(data, 0, len(data)))
    assert together.obj is data
    assert together == data
    assert packed(data, spans(data, 0, 5)).obj is data


def test_integers_are_signed() -> None:
    data = varint_field(1, 2**64 - 1) + varint_field(1, 7)
    values = [span[2:] for span in spans(data, 0, len(data))]
    assert [integers(data, at, end, 1) for at, end in values] == [[-1], [7]]
    with pytest.raises(CallError, match="too long"):
        integers(b"\1\2\3", 0, 3, 2)
    with pytest.raises(CallError, match="cut off"):
        integers(b"\1\x80", 0, 2, 9)
