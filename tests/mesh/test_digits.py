"""Numbers that others have written."""

import pytest

from mesh.digits import number


def test_digits_are_a_number() -> None:
    assert [number(text, 3) for text in ("0", "007", "999")] == [0, 7, 999]


@pytest.mark.parametrize("text", ["", "1000", "-1", "+1", " 1", "1_0", "1.0", "²", "٣", "x"])
def test_other_texts_are_none(text: str) -> None:
    assert number(text, 3) is None
