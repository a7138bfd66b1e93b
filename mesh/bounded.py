"""Bounded tables in the order in which things were last taken down: a dictionary, the oldest first."""

from typing import TypeVar

Value = TypeVar("Value")


def keep_newest(table: dict[str, Value], model: str, value: Value, most: int) -> str | None:
    """Takes a value down as the newest; the oldest model, if it had to make room among `most`."""
    table.pop(model, None)
    table[model] = value
    if len(table) <= most:
        return None
    oldest = next(iter(table))
    del table[oldest]
    return oldest
