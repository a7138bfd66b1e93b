"""The mark of the server's own calls: read back by the process that wrote it, and by nobody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.upstream.hop_mark import HopMark

OURS = HopMark("a" * 32)
NODES = ("10.0.0.1:8500", "10.0.0.2:8500")


def test_a_mark_is_read_back() -> None:
    assert OURS.read(OURS.write(NODES)) == NODES
    assert OURS.read(OURS.write(NODES[:1])) == NODES[:1]


def test_the_mark_of_another_process_is_none() -> None:
    assert OURS.read(HopMark("b" * 32).write(NODES)) is None


@pytest.mark.parametrize("cut", [0, 1, 31])
def test_a_part_of_the_secret_is_none(cut: int) -> None:
    assert OURS.read("a" * cut + " " + NODES[0]) is None
    assert OURS.read("a" * 33 + " " + NODES[0]) is None


@given(st.text(st.characters(max_codepoint=255)))
def test_whatever_a_client_writes_is_none(text: str) -> None:
    assert OURS.read(text) is None
