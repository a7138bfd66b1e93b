import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.http2.grpc_messages import MessageAssembler, MessageFault
from tests.ext_proc.http2.peer import message


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(min_value=0), max_size=30))
def test_messages_come_out_as_they_went_in_however_they_are_cut(bodies: list[bytes], places: list[int]) -> None:
    assembler = MessageAssembler(100, "identity")
    pieces = cut(b"".join(map(message, bodies)), places)
    assert [found for piece in pieces for found in assembler.feed(piece)] == bodies
    assert assembler.between


def test_what_is_missing_is_known() -> None:
    assembler = MessageAssembler(100, "identity")
    assert list(assembler.feed(message(b"whole") + message(b"cut")[:-1])) == [b"whole"]
    assert not assembler.between
    assert list(assembler.feed(b"t")) == [b"cut"]
    assert assembler.between


@pytest.mark.parametrize(
    ("flag", "encoding", "code"), [(1, "gzip", 12), (1, "identity", 13), (2, "gzip", 13), (255, "identity", 13)]
)
def test_compressed_messages_are_refused_after_those_before_them(flag: int, encoding: str, code: int) -> None:
    feed = MessageAssembler(100, encoding).feed(message(b"plain") + message(b"packed", flag))
    assert next(feed) == b"plain"
    with pytest.raises(MessageFault) as caught:
        next(feed)
    assert caught.value.code == code


def test_a_message_over_the_limit_is_refused_by_its_length_alone() -> None:
    assert list(MessageAssembler(4, "identity").feed(message(b"four"))) == [b"four"]
    with pytest.raises(MessageFault, match="message of 5 bytes is over the limit of 4 bytes") as caught:
        list(MessageAssembler(4, "identity").feed(message(b"fives")[:5]))
    assert caught.value.code == 8
