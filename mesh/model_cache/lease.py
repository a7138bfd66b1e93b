"""The right to use a loaded model."""

from collections.abc import Callable

from mesh.model_cache.names import Key
from mesh.model_cache.states import Entry


class Lease:
    """One call in flight. The model is not unloaded before `release`, which the call's end must bring about.

    As a context manager it is released at the end of the block. `was_cold`: the call had to wait for the load.
    """

    __slots__ = ("_entry", "_give_back", "was_cold")

    def __init__(self, entry: Entry, give_back: Callable[[Entry], None], was_cold: bool) -> None:
        self._entry: Entry | None = entry
        self._give_back = give_back
        self.was_cold = was_cold

    @property
    def key(self) -> Key:
        """The model version in use. Raises ValueError once it was released."""
        if self._entry is None:
            raise ValueError("the lease was released")
        return self._entry.key

    def release(self) -> None:
        """The call has ended. A second release does nothing."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._give_back(entry)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
