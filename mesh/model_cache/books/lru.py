"""The order of use: which keys were used least recently."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Lru(Generic[K]):
    """Keys, from the one unused for longest to the one used last. Every step takes constant time."""

    __slots__ = ("_order", "touch")

    def __init__(self) -> None:
        self._order: OrderedDict[K, None] = OrderedDict()
        self.touch = self._order.move_to_end
        """The key, which must be known, was used now."""

    def add(self, key: K) -> None:
        """Take the key in, as used now."""
        self._order[key] = None
        self._order.move_to_end(key)

    def discard(self, key: K) -> None:
        """Forget the key, if it is known."""
        self._order.pop(key, None)

    def __iter__(self) -> Iterator[K]:
        return iter(self._order)

    def __reversed__(self) -> Iterator[K]:
        return reversed(self._order)

    def __len__(self) -> int:
        return len(self._order)
