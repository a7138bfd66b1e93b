"""Comments change nothing of a document."""

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.kuma.rendering.commented_yaml import Because, plain, to_text

TEXT = st.text(alphabet="abc :#-'\"{}[]&*!|>%@`,?\nä0", max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    reasoned = inner | st.builds(Because, inner, st.text(alphabet="ab \n#:", min_size=1, max_size=200))
    return st.lists(reasoned, max_size=4) | st.dictionaries(TEXT, reasoned, max_size=4)


DOCUMENTS = st.dictionaries(TEXT, st.recursive(SCALARS, _nested, max_leaves=12), min_size=1, max_size=4)


@given(DOCUMENTS)
def test_a_document_is_read_as_it_was_written(document: dict[str, Any]) -> None:
    assert yaml.safe_load(to_text(document)) == plain(document)


def test_a_reason_stands_above_its_value_and_is_wrapped() -> None:
    text = to_text({"a": {"b": Because(1, "word " * 40), "c": [Because({"d": 2}, "first\n\nsecond")]}})
    lines = text.splitlines()
    assert lines[0] == "a:"
    assert lines[1].startswith("  # word")
    assert "  b: 1" in lines
    assert [line.strip() for line in lines[-4:]] == ["# first", "#", "# second", "- {d: 2}"]
    assert max(map(len, lines)) <= 116
