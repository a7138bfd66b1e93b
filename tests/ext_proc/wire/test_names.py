import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import CallError, Reason
from ext_proc.wire.names import check_label, check_name, check_version, decode, quoted
from tests.ext_proc.wire.messages import GOOD_NAMES


@given(GOOD_NAMES)
def test_a_name_comes_back_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is empty"),
        ("a/b", "holds a '/'"),
        ("../etc", "holds a '/'"),
        ("a\\b", "holds a '\\'"),
        ("..", "step in a path"),
        (".", "step in a path"),
        ("a\nb", "control character"),
        ("a\x00", "control character"),
        ("a\x7f", "control character"),
        ("a\x85", "control character"),
        ("a\u2028", "control character"),
        ("a\udcff", "not UTF-8"),
        ("x" * 256, "256 bytes long"),
        ("é" * 128, "256 bytes long"),
    ],
)
def test_a_name_that_cannot_be(name: str, says: str) -> None:
    with pytest.raises(CallError, match=r"^The model name.*\.$") as caught:
        check_name(name)
    assert caught.value.reason is Reason.INVALID
    assert says in caught.value.message
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


@given(st.text())
def test_any_text_is_a_folder_of_its_own_or_refused(text: str) -> None:
    try:
        check_name(text)
    except CallError:
        return
    assert "/" not in text
    assert "\\" not in text
    assert text not in ("", ".", "..")
    assert len(text.encode()) <= 255


def test_the_longest_name() -> None:
    assert check_name("é" * 127) == "é" * 127
    assert check_name("x" * 255) == "x" * 255


def test_an_error_names_the_part() -> None:
    with pytest.raises(CallError, match=r"^The version label 'a/b' holds"):
        check_label("a/b")


@pytest.mark.parametrize("version", ["0", "1", "007", "9223372036854775807"])
def test_a_version(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize(
    "version", ["", "-1", "+1", " 1", "1 ", "1.0", "x", "9223372036854775808", "1" * 20, "١", "1\n"]
)
def test_a_version_that_cannot_be(version: str) -> None:
    with pytest.raises(CallError, match=r"^The model version .* is not a decimal number"):
        check_version(version)


def test_text_that_is_not_utf8() -> None:
    assert decode("é".encode()) == "é"
    with pytest.raises(CallError, match=r"^The model name b'\\xff' is not UTF-8"):
        decode(b"\xff")


def test_what_is_quoted_is_cut() -> None:
    assert quoted("a" * 61) == f"'{'a' * 60}'..."
    assert quoted("a" * 60) == f"'{'a' * 60}'"
