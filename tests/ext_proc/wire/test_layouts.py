"""Layouts against data that is made value by value."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire.json_text import Items
from ext_proc.wire.layouts import Binary, Fixed, Misfit, Prefixed, StringFields, Varints
from ext_proc.wire.protobuf.fields import MAX_VARINT_BYTES, len_field, varint

VARINTS = st.integers(0, 2**64 - 1).map(varint) | st.integers(0, 300).map(varint)
STRINGS = st.binary(max_size=200)
KINDS: dict[str, tuple[Callable[[int], Binary], st.SearchStrategy[bytes]]] = {
    "fixed": (lambda elements: Fixed(elements, 3), st.binary(min_size=3, max_size=3)),
    "varints": (Varints, VARINTS),
    "prefixed": (Prefixed, STRINGS.map(lambda text: len(text).to_bytes(4, "little") + text)),
    "strings": (lambda elements: StringFields(elements, 8), STRINGS.map(lambda text: len_field(8, text))),
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.data(), st.integers(0, 40), st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_what_is_cut_are_rows(kind: str, data: st.DataObject, elements: int, rows: list[int]) -> None:
    make, values = KINDS[kind]
    wanted = elements * sum(rows)
    written = data.draw(st.lists(values, min_size=wanted, max_size=wanted))
    pieces = make(elements).cut(b"".join(written), rows)
    assert [bytes(piece) for piece in pieces] == [
        b"".join(written[elements * sum(rows[:at]) : elements * sum(rows[: at + 1])]) for at in range(len(rows))
    ]
    assert b"".join(make(elements).join(pieces)) == b"".join(written)
    if elements:
        for other in ([*rows, 1], [sum(rows) + 1]):
            with pytest.raises(Misfit, match="where"):
                make(elements).cut(b"".join(written), other)


@pytest.mark.parametrize("before", [0, 1, 99, 100, 101, 500])
@pytest.mark.parametrize("after", [0, 1, 200])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_varint_is_at_most_ten_bytes_long(before: int, after: int, rows: int) -> None:
    def cut(most: int) -> list[bytes]:
        layout = Varints((before + 1 + after) // rows)
        data = b"\1" * before + b"\xff" * (most - 1) + b"\1" + b"\1" * after
        return [bytes(piece) for piece in layout.cut(data, [1] * rows)]

    if (before + 1 + after) % rows:
        return
    assert sum(map(len, cut(MAX_VARINT_BYTES))) == before + MAX_VARINT_BYTES + after
    with pytest.raises(Misfit, match="no varints"):
        cut(MAX_VARINT_BYTES + 1)


@pytest.mark.parametrize(
    ("layout", "data"),
    [
        (Fixed(1, 4), bytes(5)),
        (Varints(1), b"\x80"),
        (Varints(300), b"\1" * 300 + b"\x80"),
        (Prefixed(1), b"\1\0\0"),
        (Prefixed(1), b"\1\0\0\0"),
        (Prefixed(1), b"\xff\xff\xff\xff"),
        (StringFields(1, 8), b"\x42"),
        (StringFields(1, 8), b"\x42\1"),
        (StringFields(1, 8), b"\x42\x80"),
        (StringFields(1, 8), b"\x42" + b"\xff" * 11),
        (StringFields(1, 8), b"\x4a\0"),
    ],
)
def test_what_is_no_such_data(layout: Binary, data: bytes) -> None:
    for rows in ([1], [1, 0]):
        with pytest.raises(Misfit):
            layout.cut(data, rows)


@pytest.mark.parametrize("layout", [Prefixed(1), StringFields(1, 8)])
def test_no_more_strings_are_looked_at_than_there_should_be(layout: Binary) -> None:
    assert len(layout.ends(layout.zero() * 1000, 5)) == 6


@pytest.mark.parametrize(
    ("items", "data", "rows", "pieces"),
    [
        (Items(), "1 , 2,\n3", [2, 1], ["1 , 2", "3"]),
        (Items(2), "1,2 ,true,null", [1, 1], ["1,2", "true,null"]),
        (Items(0), "", [1, 2], ["", ""]),
        (Items(1, 1), "[1,2] , [3],[4 ]", [1, 2], ["[1,2]", "[3],[4 ]"]),
        (Items(1, 3), "[[1],[2]],\n[[3] ,[4]]", [1, 1], ["[[1],[2]]", "[[3] ,[4]]"]),
        (Items(), '"a,]" , "b\\"",\n"["', [1, 2], ['"a,]"', '"b\\"",\n"["']),
        (Items(1, 1), '["a"],["],"]', [1, 1], ['["a"]', '["],"]']),
        (Items(), '{"x":[1,2]} ,{"x":[3]}', [1, 1], ['{"x":[1,2]}', '{"x":[3]}']),
    ],
)
def test_items_are_cut_where_they_end(items: Items, data: str, rows: list[int], pieces: list[str]) -> None:
    assert items.cut(data, rows) == pieces
    assert items.cut(data, [sum(rows)]) == [data]
    if items.per_row:
        with pytest.raises(ValueError):
            items.cut(data, [*rows, 1])


def test_pieces_without_items_take_no_separator() -> None:
    assert Items(separator=", ").join(["1", "", "2, 3"]) == ["1, 2, 3"]
