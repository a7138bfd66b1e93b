"""What an edge tells a node of a session: what is written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.session_claim import MAX_LENGTH, SessionClaim, read_claim, write_claim

KEY = "9f86d081884c7d659a2feaa0c55ad015"


@given(st.binary(min_size=16, max_size=16), st.integers(1, 86_400), st.booleans())
def test_what_is_written_is_read(key: bytes, idle: int, last: bool) -> None:
    claim = SessionClaim(key.hex(), idle, last)
    assert read_claim(write_claim(claim)) == claim


def test_parameters_that_are_not_known_are_passed_over() -> None:
    assert read_claim(f"{KEY}; idle=60; later=1; end=?1") == SessionClaim(KEY, 60, last=True)
    assert read_claim(f"{KEY};idle=60;end=?0") == SessionClaim(KEY, 60)


@pytest.mark.parametrize(
    "value",
    [
        None, "", KEY, f"{KEY};idle", f"{KEY};idle=0", f"{KEY};idle=86401", f"{KEY};idle=x", f"{KEY};idle=1.5",
        f"{KEY[:-1]};idle=60", f"{KEY.upper()};idle=60", f"{KEY}0;idle=60", f"{KEY};idle=60" + " " * MAX_LENGTH,
    ],
)  # fmt: skip
def test_what_no_edge_says_is_no_claim(value: str | None) -> None:
    assert read_claim(value) is None


@given(st.text(max_size=200))
def test_nothing_is_raised(value: str) -> None:
    read_claim(value)
