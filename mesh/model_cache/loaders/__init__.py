"""Loaders: model servers as the cache drives them. `open_loader(settings)` is all that the node needs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.model_cache.loaders.loader import Loader
from mesh.model_cache.loaders.tfserving import open_tf_serving
from mesh.model_cache.loaders.triton import open_triton
from mesh.model_cache.settings import CacheSettings

__all__ = ["open_loader"]


@asynccontextmanager
async def open_loader(settings: CacheSettings) -> AsyncIterator[Loader]:
    """The loader for this node's model server, open for the length of the block."""
    server = settings.loader
    if server.api == "v2":
        async with open_triton(server.address) as triton:
            yield triton
    else:
        folder = settings.folder.absolute() / "models" if server.folder is None else server.folder
        async with open_tf_serving(server.address, folder, settings.labels, server.platform) as tf_serving:
            yield tf_serving
