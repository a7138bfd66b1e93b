"""Tables by model that stay bounded: whoever writes to them for every call need not count."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


def keep_newest(table: dict[str, Value], model: str, value: Value, most: int) -> str | None:
    """Writes the value as the table's newest, and drops the oldest entry beyond `most`; returns the dropped model.

    The table stays in the order of its last writes, the oldest first: so it can also be read by age.
    """
    table.pop(model, None)
    table[model] = value
    if len(table) <= most:
        return None
    oldest = next(iter(table))
    del table[oldest]
    return oldest


class Memo(Generic[Value]):
    """Remembers a value for each of the models asked for lately: at least `size` of them, at most twice as many.

    Two generations instead of a list by age: when the young one is full it becomes the old one, and
    what is still asked for comes over. A look-up is one or two dictionary accesses and writes nothing as a rule.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[str, Value] = {}
        self._old: dict[str, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __iter__(self) -> Iterator[str]:
        yield from self._young
        yield from (model for model in self._old if model not in self._young)

    def get(self, model: str) -> Value | None:
        """The value remembered for that model."""
        value = self._young.get(model)
        if value is None:
            value = self._old.get(model)
            if value is not None:
                self.put(model, value)
        return value

    def put(self, model: str, value: Value) -> None:
        """Remember a value for that model; the oldest generation may be forgotten for it."""
        if len(self._young) >= self._size and model not in self._young:
            self._old, self._young = self._young, {}
        self._young[model] = value

    def clear(self) -> None:
        """Forget the values of all models."""
        self._young, self._old = {}, {}
