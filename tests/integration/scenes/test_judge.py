"""What the demo calls misrouted."""

import pytest

from integration.scenes.judge import misrouted

A, B = frozenset("a"), frozenset("b")
NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("sent", "before", "after", "wrong"),
    [
        ({"a": 6}, A, A, 0),
        ({"a": 6}, NOBODY, A, 0),
        ({"a": 5, "b": 1}, A, A, 1),
        ({"a": 5, "b": 1}, NOBODY, A, 1),
        ({"b": 6}, A, A | B, 6),
        ({"b": 6}, A, B, 6),
        ({"a": 3, "b": 3}, NOBODY, A | B, 6),
        ({"a": 6}, NOBODY, NOBODY, 6),
        ({"a": 6}, A, NOBODY, 6),
        ({}, NOBODY, NOBODY, 0),
    ],
    ids=[
        "held, and called",
        "loaded for the calls",
        "one went elsewhere",
        "one went elsewhere while it was loaded",
        "loaded a second time",
        "moved by the calls",
        "loaded twice for the calls",
        "answered by nobody who holds it",
        "gone under the calls",
        "no calls",
    ],
)
def test_misrouted_are_calls_to_a_node_that_was_not_to_get_them(
    sent: dict[str, int], before: frozenset[str], after: frozenset[str], wrong: int
) -> None:
    assert misrouted(sent, before, after) == wrong


def test_as_many_copies_as_replicas_are_right() -> None:
    assert misrouted({"a": 3, "b": 3}, A | B, A | B, replicas=2) == 0
    assert misrouted({"a": 3, "c": 1}, A | B, A | B, replicas=2) == 1
