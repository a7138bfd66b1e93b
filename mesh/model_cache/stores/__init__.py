"""Stores of models: a disk, S3 or Azure Blob. `open_store(settings)` is all that the cache needs."""

from mesh.model_cache.stores.leftovers import clean_leftovers
from mesh.model_cache.stores.manifest import fetched
from mesh.model_cache.stores.opening import open_store
from mesh.model_cache.stores.settings import StoreSettings

__all__ = ["StoreSettings", "clean_leftovers", "fetched", "open_store"]
