"""The lease of one call on a model version."""

from collections.abc import Callable

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry


class Lease:
    """One call in flight. The model is not unloaded before `release`, which the call's end must bring about.

    As a context manager it is released at the end of the block.
    """

    __slots__ = ("_entry", "_give_back")

    def __init__(self, entry: CacheEntry, give_back: Callable[[CacheEntry], None]) -> None:
        self._entry: CacheEntry | None = entry
        self._give_back = give_back

    @property
    def entry(self) -> CacheEntry:
        """The entry of the model version in use. Raises ValueError once it was released."""
        if self._entry is None:
            raise ValueError("the lease was released")
        return self._entry

    @property
    def key(self) -> Key:
        """The model version in use. Raises ValueError once it was released."""
        return self.entry.key

    def release(self) -> None:
        """The call has ended. A second release does nothing."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._give_back(entry)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
