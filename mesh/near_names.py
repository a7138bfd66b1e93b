"""Names that were probably meant: what an error adds that has a name which nothing has."""

from collections.abc import Iterable
from difflib import get_close_matches


def near_names(name: str, names: Iterable[str]) -> str:
    """A question that has the nearest of `names`; empty if none is near."""
    near = get_close_matches(name, sorted(set(names)), n=3)
    return f"Did you mean {' or '.join(map(ascii, near))}?" if near else ""
