"""Tables that stay bounded, by entries or by bytes: whoever writes to them for every call need not count."""

import sys
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

MEMO_BYTES = 2 << 20
"""Of one `ByteMemo`: some thousand keys of the usual length, and a dozen such memos are a small part of a process."""
ENTRY_BYTES = 8192
"""Of one entry: what is longer is rare, or hostile, and would push out many others."""
_SLOT_BYTES = 160  # of a dictionary, for one entry, at the time at which it grows


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

    def peek(self, model: str) -> Value | None:
        """The same, and nothing is remembered longer for it."""
        value = self._young.get(model)
        return self._old.get(model) if value is None else value

    def put(self, model: str, value: Value) -> None:
        """Remember a value for that model; the oldest generation may be forgotten for it."""
        if len(self._young) >= self._size and model not in self._young:
            self._old, self._young = self._young, {}
        self._young[model] = value

    def clear(self) -> None:
        """Forget the values of all models."""
        self._young, self._old = {}, {}


class ByteMemo(dict[Key, Value]):
    """Remembers what `make` makes of keys that come from the wire, in at most `most` bytes of keys and values.

    `memo[key]` is the value, made where it is not remembered; what `make` raises comes out, and is not remembered. An
    entry of more than `longest` bytes is not kept either. As in `Memo` there are two generations, of half of the bytes
    each, so that a key that is known costs one access to a dictionary.
    """

    def __init__(self, make: Callable[[Key], Value], most: int = MEMO_BYTES, longest: int = ENTRY_BYTES) -> None:
        super().__init__()
        self._make = make
        self._half = most // 2
        self._longest = longest
        self._old: dict[Key, Value] = {}
        self._bytes = self._old_bytes = 0

    @property
    def bytes(self) -> int:
        """What is remembered, in bytes."""
        return self._bytes + self._old_bytes

    def __missing__(self, key: Key) -> Value:
        value = self._old[key] if key in self._old else self._make(key)
        size = footprint(key) + footprint(value) + _SLOT_BYTES
        if size <= self._longest:
            if self._bytes + size > self._half:
                self._old, self._old_bytes = dict(self), self._bytes
                self.clear()
                self._bytes = 0
            self[key] = value
            self._bytes += size
        return value


def footprint(value: Any) -> int:
    """Bytes of memory of a value: text, bytes, numbers, and tuples and dataclasses of such. Parts that are shared count
    each time, so that it is never too few."""
    size = sys.getsizeof(value)
    if isinstance(value, tuple):
        return size + sum(map(footprint, value))
    if is_dataclass(value):
        return size + sum(footprint(getattr(value, field.name)) for field in fields(value))
    return size
