"""The source protocol: what each kind of store has to offer, a list and ranged reads of one exact state of a file."""

from typing import Protocol

from mesh.model_cache.stores.objects import Listing, Object
from mesh.model_cache.stores.store import StoreTransient

Data = bytes | memoryview


class ObjectSource(Protocol):
    """The folder of all models. Every method raises StoreError, takes bounded time and can be cancelled."""

    @property
    def name(self) -> str:
        """The source's name in messages: the URL of the settings."""
        ...

    async def objects(self, model: str, limit: int) -> Listing:
        """Everything below `<model>/`; empty where there is no such model. Over `limit` entries: StoreCorrupt.

        Names are as the store gives them: whoever uses them checks them. What is hidden beside the versions may be
        left out.
        """
        ...

    async def read(self, model: str, each: Object, offset: int, length: int) -> Data:
        """`length` bytes of that file from `offset`; StoreTransient where its etag is no longer `each.etag`."""
        ...


def changed(name: str, model: str, each: Object) -> StoreTransient:
    """The error for a file that is rewritten while it is fetched."""
    return StoreTransient(f"In {name} the file {f'{model}/{each.path}'!a} changed while it was fetched.")
