"""What awaits a call on the node that it would go to."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prospect:
    """With `cold` a load comes first, of so many seconds as far as the node has told (None: it has not)."""

    cold: bool = False
    load_seconds: float | None = None


RESIDENT = Prospect()
"""The node holds the model, or nobody knows."""
