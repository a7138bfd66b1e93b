"""What a finished fetch brought, read back from its manifest."""

import json
from pathlib import Path

from mesh.model_cache.stores.objects import MANIFEST
from mesh.model_cache.stores.store import Remote


def fetched(target: Path) -> Remote | None:
    """The version that a finished fetch brought into `target`; None where none finished there."""
    try:
        model, version, size_bytes, digest = json.loads((target / MANIFEST).read_bytes())["remote"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Remote(model, version, size_bytes, digest)
