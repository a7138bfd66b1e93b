"""Bytes as choices: what a fuzzer changes by a bit changes one choice, and every input is a valid one."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_LONG = 0xF0  # first bytes of a length from here on announce a second one


class Reader:
    """Takes choices off the front of the input. At its end everything is the first choice, zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._at < len(self._data)

    def number(self, most: int = 255) -> int:
        """From 0 to `most`."""
        size = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4
        return int.from_bytes(self._take(size), "big") % (most + 1)

    def flag(self) -> bool:
        return self.number() & 1 == 1

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number() % len(choices)]

    def piece(self) -> bytes:
        """Some bytes: as many as the first one of them says."""
        size = self.number()
        if size >= _LONG:
            size = (size - _LONG) << 8 | self.number()
        return self._take(size)

    def text(self) -> str:
        """Some characters, as headers come: every byte is one."""
        return self.piece().decode("latin-1")

    def rest(self) -> bytes:
        """All that is left."""
        return self._take(len(self._data) - self._at)

    def chunks(self) -> Iterator[bytes]:
        """All that is left, in chunks of one size. That is chosen, too."""
        size = self.number() or 1 << 30
        rest = self.rest()
        for start in range(0, len(rest), size):
            yield rest[start : start + size]

    def _take(self, size: int) -> bytes:
        start = self._at
        self._at = min(len(self._data), start + size)
        return self._data[start : self._at]
