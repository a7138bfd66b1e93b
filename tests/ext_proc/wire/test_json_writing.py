"""JSON that is written by parts is the text that `json` writes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.wire import json_writing

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    max_leaves=40,
)


@given(st.dictionaries(st.text("abé"), VALUES), st.sampled_from([None, (",", ":")]), st.integers(1, 5))
def test_by_parts_as_in_one(value: dict[str, Any], separators: tuple[str, str] | None, part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_writing, "_PART", part)
        written = json_writing.write(value, separators)
    assert written == json.dumps(value, ensure_ascii=False, separators=separators).encode()


@pytest.mark.parametrize("value", [{"a": [0.5] * 100}, {"a": [[1, 2]] * 50}, {"a": [{"b": 1, "c": [2]}] * 50}])
def test_many_values_are_written_some_at_a_time(value: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    class Watched(json.JSONEncoder):
        def encode(self, o: Any) -> str:
            nonlocal most
            most = max(most, json_writing._count(o))
            return super().encode(o)

    monkeypatch.setattr(json_writing, "_PART", 10)
    monkeypatch.setattr(json_writing.json, "JSONEncoder", Watched)  # type: ignore[attr-defined]
    json_writing.write(value)
    assert most <= 10


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        json_writing.write({"a": "\ud83d"})
