import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rapidjson as oracle  # RapidJSON itself, by python-rapidjson
from hypothesis import given
from hypothesis import strategies as st

from mesh.model_server import rapidjson

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_prints_is_parsed(value: Any) -> None:
    assert rapidjson.parse(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@given(VALUES)
def test_what_is_printed_means_the_same(value: Any) -> None:
    for single in (False, True):
        assert json.loads(rapidjson.pretty(value, single_line_arrays=single)) == value


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_the_one_error(data: bytes) -> None:
    offset = 0
    try:
        rapidjson.parse(data)
    except rapidjson.JsonError as error:
        offset = error.offset
    assert 0 <= offset <= len(data)


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        (b"", "The document is empty.", 0),
        (b"{", "Missing a name for object member.", 1),
        (b'{"a"}', "Missing a colon after a name of object member.", 4),
        (b'{"a":1 "b":2}', "Missing a comma or } after an object member.", 7),
        (b'{"a":[1 2]}', "Missing a comma or ] after an array element.", 8),
        (b'{"]": [1 2]}', "Missing a comma or ] after an array element.", 9),
        (b'{"a":tru}', "Invalid value.", 8),
        (b'{"a":-}', "Invalid value.", 6),
        (b'{"a', "Missing a closing quotation mark in string.", 3),
        (b'{"a":1.}', "Miss fraction part in number.", 7),
        (b'{"a":1e}', "Miss exponent in number.", 7),
        (b'{"a":1e999}', "Number too big to be stored in double.", 5),
        ('{"é":x}'.encode(), "Invalid value.", 6),
        (b"1 2", "The document root must not be followed by other values.", 2),
        (b"[" * 100_000, "The document is nested too deeply.", 0),
        (b"9" * 10_000, "Number too big to be stored in double.", 0),
    ],
)
def test_errors_are_rapidjsons(text: bytes, message: str, offset: int) -> None:
    with pytest.raises(rapidjson.JsonError) as caught:
        rapidjson.parse(text)
    assert (caught.value.text, caught.value.offset) == (message, offset)


def test_the_rest_is_ignored_when_asked() -> None:
    assert rapidjson.parse(b'{"a": 1} and more', stop_when_done=True) == {"a": 1}
    assert rapidjson.parse(b'{"a": 1}\0\xff and more') == {"a": 1}


def test_bytes_that_are_not_utf8_come_through() -> None:
    value = rapidjson.parse(b'"\xff\xc3\xa9"')
    assert rapidjson.encode(value) == b"\xff\xc3\xa9"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.1), "0.1"),
        (0.1, "0.1"),
        (np.float32(1), "1.0"),
        (1 / 3, "0.33333333333333331"),
        (np.float32(1 / 3), "0.333333343"),
        (9_000_000.0, "9e+06"),
        (123456.0, "123456.0"),
        (1234567.0, "1234567.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (-0.0, "-0.0"),
    ],
)
def test_decimals_are_printed_as_tf_serving_does(value: Any, text: str) -> None:
    assert rapidjson.decimal(value) == text


@given(st.floats(allow_nan=False, width=32))
def test_single_decimals_come_back(value: float) -> None:
    assert np.float32(rapidjson.decimal(np.float32(value))) == np.float32(value)


@given(st.floats(allow_nan=False))
def test_double_decimals_come_back(value: float) -> None:
    assert float(rapidjson.decimal(value)) == value


def test_layout() -> None:
    assert rapidjson.pretty({"a": [1, [2, 3]], "b": {}}) == (
        '{\n    "a": [\n        1,\n        [\n            2,\n            3\n        ]\n    ],\n    "b": {}\n}'
    )
    assert rapidjson.pretty({"a": [1, [2, 3]]}, single_line_arrays=True) == '{\n    "a": [1, [2, 3]]\n}'


# RapidJSON itself

PIECES = st.sampled_from(
    [
        *'[]{}:,"-.eE+0123456789 \n/x',
        *("null", "true", "false", "nul", "NaN", "Inf", "-Inf", "Infinity", "-Infinity", "-NaN", "Infinit", "Na"),
        *("1.5", "1.", "1e5", "-0", "[1,2]", '{"a":1}', "\\", "\\u12", '"é"', '"-Inf"', '"\\"Inf\\""', '"a"', '"a":'),
        *('"\\n"', '"\\x"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00"', '"\\ud83d\\u0041"'),
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_it_reads_what_rapidjson_reads(text: str) -> None:
    """Whether it reads it, and as what. Integers beyond 64 bits stay exact here; texts of errors are pinned above."""
    try:
        expected = oracle.loads(text, number_mode=oracle.NM_NAN)
    except oracle.JSONDecodeError:
        with pytest.raises(rapidjson.JsonError):
            rapidjson.parse(text.encode())
        return
    assert repr(rapidjson.parse(text.encode())) == repr(expected)


@pytest.mark.parametrize("text", ["[Inf, -Inf, Infinity, -Infinity]", '{"a": Inf}'])
def test_infinity_has_two_names(text: str) -> None:
    assert "inf" in repr(rapidjson.parse(text.encode()))


def test_a_byte_order_mark_at_the_start_is_passed_over_and_counts_in_offsets() -> None:
    assert rapidjson.parse(b"\xef\xbb\xbf[1]") == [1]
    with pytest.raises(rapidjson.JsonError) as refused:
        rapidjson.parse(b"\xef\xbb\xbf[x]")
    assert refused.value.offset == 4
    with pytest.raises(rapidjson.JsonError):
        rapidjson.parse(b"[\xef\xbb\xbf1]")


def test_the_offset_of_an_error_after_other_words_for_infinity_is_that_of_the_text() -> None:
    with pytest.raises(rapidjson.JsonError) as refused:
        rapidjson.parse(b"[Inf, -Inf, -NaN, x]")
    assert refused.value.offset == 18


@pytest.mark.parametrize("half", ['"\\ud83d"', '"\\ude00"', '"a\\ud83d\\u0041"', '["\\ud83d\\ude00\\ud83d"]'])
def test_half_a_surrogate_pair_is_refused(half: str) -> None:
    with pytest.raises(rapidjson.JsonError, match="surrogate pair"):
        rapidjson.parse(half.encode())
    assert rapidjson.parse(b'"\\\\ud83d"') == "\\ud83d"  # an escaped backslash before the letters


@pytest.mark.parametrize("unit", ['"\\"', "Inf,", "-NaN", '\\"Inf', "[", "[Inf"])
def test_hostile_texts_take_time_in_proportion(unit: str) -> None:
    with contextlib.suppress(rapidjson.JsonError):
        rapidjson.parse(b"[" + unit.encode() * 500_000)  # hours, where it grew with the square


def test_of_members_with_one_name_the_first_is_found() -> None:
    assert rapidjson.parse(b'{"a": 1, "b": {"c": 2, "c": 3}, "a": 4, "a": 5}') == {"a": 1, "b": {"c": 2}}


def test_the_start_of_a_value_is_printed_without_the_rest() -> None:
    class Watched(list[int]):
        def __iter__(self) -> Iterator[int]:
            for number in super().__iter__():
                seen.append(number)
                yield number

    seen: list[int] = []
    value = {"a": Watched(range(1000))}
    assert rapidjson.pretty(value, single_line_arrays=True).startswith(rapidjson.pretty_start(value, 20))
    seen.clear()
    rapidjson.pretty_start(value, 20)
    assert len(seen) < 20
