import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.names import fault_sentence, name_fault, quoted, version_fault


@pytest.mark.parametrize(
    "name", ["m", "a b", "bert:3", "50%", "é", "模型", "...", ".hidden", "-x", "é" * 127, "x" * 255]
)
def test_what_servers_and_file_systems_take_is_a_name(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        (".", "is a step in a path, not a name"),
        ("..", "is a step in a path, not a name"),
        ("../etc", "holds a '/'"),
        ("a\\b", "holds a '\\'"),
        ("a\x00", "holds a control character, which cannot be printed"),
        ("a\u2028", "holds a control character, which cannot be printed"),
        ("a\udcff", "holds text that is not UTF-8"),
        ("x" * 256, "is 256 bytes long, over the limit of 255"),
        ("é" * 128, "is 256 bytes long, over the limit of 255"),
    ],
)
def test_why_a_name_cannot_be(name: str, fault: str) -> None:
    assert name_fault(name) == fault


@given(st.text())
def test_any_name_is_one_folder_on_one_line_or_has_a_fault(name: str) -> None:
    fault = name_fault(name)
    if fault is None:
        assert name not in ("", ".", "..")
        assert not set(name) & set("/\\\x00")
        assert name.splitlines() == [name]
        assert len(name.encode()) <= 255
    else:
        sentence = fault_sentence("model name", name, fault)
        assert sentence.startswith("The model name ")
        assert sentence.isascii()
        assert sentence.isprintable()


@given(st.integers(0, 2**63 - 1))
def test_a_version_is_an_int64(version: int) -> None:
    assert version_fault(str(version)) is None


@pytest.mark.parametrize("version", ["", "-1", "1.0", "x", " 1", "1_0", "٣", "9223372036854775808", "0" * 20])
def test_why_a_version_cannot_be(version: str) -> None:
    assert version_fault(version) == "is not a decimal number of 64 bits"


def test_a_fault_is_told_in_one_sentence_that_quotes_the_start() -> None:
    assert fault_sentence("version label", "a/b", "holds a '/'") == "The version label 'a/b' holds a '/'."
    assert fault_sentence("model name", "", "is empty") == "The model name is empty."
    assert quoted("a" * 61) == f"'{'a' * 60}'..."
    assert quoted(b"\xff") == "b'\\xff'"
