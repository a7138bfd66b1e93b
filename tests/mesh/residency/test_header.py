import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.residency.header import MAX_LENGTH, read_word, write_word
from mesh.residency.state import Residency

AVAILABLE = Residency.AVAILABLE


@given(st.sampled_from(list(Residency)), st.booleans())
def test_what_is_written_is_read(state: Residency, leaving: bool) -> None:
    assert read_word(write_word(state, leaving)) == (state, leaving)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("available;leaving", (AVAILABLE, True)),
        ("available; leaving=?1", (AVAILABLE, True)),
        ("available;leaving=?0", (AVAILABLE, False)),
        ("available;since=3;leaving", (AVAILABLE, True)),
        ("available;colour=blue", (AVAILABLE, False)),
        ("dreaming", None),
        ("Available", None),
        ("", None),
        (None, None),
        ("available" + ";" * MAX_LENGTH, None),
    ],
)
def test_what_is_not_known_is_passed_over(value: str | None, expected: tuple[Residency, bool] | None) -> None:
    assert read_word(value) == expected


@given(st.text(max_size=200))
def test_any_text_is_read_or_ignored(value: str) -> None:
    word = read_word(value)
    assert word is None or word[0].name.lower() == value.split(";")[0]
