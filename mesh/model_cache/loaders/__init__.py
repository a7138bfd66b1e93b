"""Model servers as the cache drives them. `open_loader(settings)` is all that the node needs."""

from mesh.model_cache.loaders.opening import open_loader

__all__ = ["open_loader"]
