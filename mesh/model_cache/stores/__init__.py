"""Stores of models: a disk, S3, Azure Blob, Google Cloud Storage. `open_store(settings)` is all the cache needs."""

from mesh.errors import MeshError
from mesh.model_cache.stores.disk import DiskSource
from mesh.model_cache.stores.object_source import ObjectSource
from mesh.model_cache.stores.object_store import ObjectStore
from mesh.model_cache.stores.settings import StoreSettings
from mesh.model_cache.stores.staging import clean_leftovers
from mesh.model_cache.stores.store import Store

__all__ = ["StoreSettings", "clean_leftovers", "open_store"]


def open_store(settings: StoreSettings) -> Store:
    """The store that the settings name; nothing is asked of it yet.

    Raises MeshError where the library for the clouds is not installed, StoreError where the environment holds
    settings for it that make no sense.
    """
    return ObjectStore(_source(settings), settings)


def _source(settings: StoreSettings) -> ObjectSource:
    if settings.kind == "file":
        return DiskSource(settings)
    try:
        from mesh.model_cache.stores.cloud import CloudSource  # an extra, and slow to import
    except ImportError:
        raise MeshError(f"{settings.url} needs obstore: pip install 'tbms[stores]'.") from None
    return CloudSource(settings)
