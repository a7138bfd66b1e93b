import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.protobuf.fields import (
    FIXED32,
    LEN,
    START_GROUP,
    VARINT,
    Field,
    len_field,
    varint,
    varint_field,
    walk,
)
from ext_proc.wire.protobuf.scan import Scanner
from mesh.protos import tfs_pb2 as tfs


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_what_is_written_is_walked(number: int, content: bytes, value: int) -> None:
    data = len_field(number, content) + varint_field(number, value)
    first, second = walk(data)
    assert (first.number, first.wire, data[first.body : first.end]) == (number, LEN, content)
    assert (second.number, second.wire, second.value) == (number, VARINT, value)
    assert (first.start, first.end, second.end) == (0, second.start, len(data))


@given(st.integers(0, 2**63 - 1))
def test_varints_are_those_of_protobuf(value: int) -> None:
    assert varint_field(1, value) == tfs.TensorShapeProto.Dim(size=value).SerializeToString() or value == 0
    assert varint(value)[-1] < 0x80


def test_a_group_is_one_field() -> None:
    data = b"\x0b\x15abcd\x13\x14\x0c\x10\x05"
    assert list(walk(data)) == [Field(1, START_GROUP, 0, 0, 1, 9), Field(2, VARINT, 5, 9, 10, 11)]
    assert FIXED32 == 0x15 & 7


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x0a", "field 1 is cut off at byte 0"),
        (b"\x10\x01\x0a\x05abc", "field 1 is cut off at byte 2"),
        (b"\x80", "a field is cut off at byte 0"),
        (b"\x0c", "a group ends that was not begun at byte 0"),
        (b"\x0b\x14", "a group ends that was not begun at byte 1"),
        (b"\x0b", "field 1 is cut off"),
        (b"\x09abc", "field 1 is cut off"),
        (b"\x0b" * 101, "nested too deep"),
        (b"\x10\x01" * 16_385, "more than 16384 fields"),
        (b"\x0b" + b"\x10\x01" * 16_384, "more than 16384 fields"),
    ],
)
def test_malformed_data_says_where(data: bytes, says: str) -> None:
    with pytest.raises(CallError, match=says) as caught:
        list(walk(data))
    assert caught.value.reason is Reason.INVALID


@given(st.binary(max_size=100), st.lists(st.integers(0, 100)))
def test_both_walks_agree(data: bytes, cuts: list[int]) -> None:
    def whole() -> list[tuple[int, bytes | None]]:
        wanted = {1, 2}
        return [
            (field.number, data[field.body : field.end] if field.wire == LEN and field.number in wanted else None)
            for field in walk(data)
        ]

    def chunked() -> list[tuple[int, bytes | None]]:
        scanner, seen = Scanner(frozenset((1, 2)), len(data)), []
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            seen.extend(scanner.feed(data[start:end]))
        scanner.end()
        return seen

    results = []
    for attempt in (whole, chunked):
        try:
            results.append(attempt())
        except CallError as error:
            results.append([(error.reason.grpc, None)])
    assert results[0] == results[1]
