"""The lease of one call on a model version."""

from collections.abc import Callable

from mesh.model_cache.books.names import Key
from mesh.model_cache.books.states import CacheEntry

Held = tuple[CacheEntry, ...]


class Lease:
    """One call in flight. The model is not unloaded before `release`, which the call's end must bring about.

    Nor is anything that the model needs: `held` is the model, and then these. As a context manager it is released at
    the end of the block.
    """

    __slots__ = ("_give_back", "_held")

    def __init__(self, held: Held, give_back: Callable[[Held], None]) -> None:
        self._held = held
        self._give_back = give_back

    @property
    def key(self) -> Key:
        """The model version in use. Raises ValueError once it was released."""
        if not self._held:
            raise ValueError("the lease was released")
        return self._held[0].key

    def release(self) -> None:
        """The call has ended. A second release does nothing."""
        held, self._held = self._held, ()
        if held:
            self._give_back(held)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
