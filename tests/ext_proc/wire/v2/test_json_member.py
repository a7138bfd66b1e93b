"""One member of a JSON object, cut out of its text, beside Python's own reading of the whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.v2.json_member import first_member

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_every_member_is_the_one_that_a_reader_of_the_whole_finds(
    document: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    for name, value in document.items():
        found = first_member(text, name)
        assert found is not None
        assert json.loads(found.decode("utf-8", "surrogatepass")) == value
    assert first_member(text, "none of them") is None


@given(st.binary(max_size=60) | st.text('{}[]":,\\ a1', max_size=60).map(str.encode))
def test_whatever_the_text_is_nothing_is_raised(text: bytes) -> None:
    first_member(text, "a")


@pytest.mark.parametrize("filling", ["1," * 200_000, '"b",' * 100_000, "[[[[1]]],[]]," * 20_000, '{"s":"]"},' * 20_000])
def test_what_is_longer_than_a_piece_is_passed_over(filling: str) -> None:
    text = f'{{"inputs":[{{"data":[{filling}0]}}],"name":"{"x" * 200_000}","parameters": {{"sequence_id": 7}} }}'
    assert first_member(text.encode(), "parameters") == b'{"sequence_id": 7}'


def test_of_two_members_of_one_name_the_first_counts_however_it_is_written() -> None:
    assert first_member(rb'{"p\u0061rameters": 1, "parameters": 2}', "parameters") == b"1"


@pytest.mark.parametrize("text", ["", "7", "[]", '{"a"', '{"a":', '{"b":[1', '{"b":1 "a":2}', '{"b":"x', '{"b":[['])
def test_what_is_no_object_has_no_member(text: str) -> None:
    assert first_member(text.encode(), "a") is None


def test_lists_without_an_end_are_given_up() -> None:
    assert first_member(b'{"b":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b',"a":1}', "a") is None
