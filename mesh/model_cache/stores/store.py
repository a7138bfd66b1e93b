"""The store protocol: what the cache asks of a store of models, and how a store fails."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.errors import MeshError
from mesh.model_cache.books.needs import Need


class StoreError(MeshError):
    """A store did not do what it was asked. The message may name buckets and hosts: for /status, not for clients."""


class StoreCredentials(StoreError):
    """The store refuses us: credentials are missing, wrong, expired, or lack a right."""


class StoreMissing(StoreError):
    """What is asked for does not exist: the bucket or folder itself, or a version that was there a moment ago."""


class StoreTransient(StoreError):
    """Asking again later may help: time limits, broken connections, 5xx, throttling."""


class StoreCorrupt(StoreError):
    """What arrived is not what was promised (size, checksum, an archive that cannot be read, a name that leaves its
    folder). Asking again brings the same."""


class StoreFull(StoreError):
    """The local disk has no room for what is fetched."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One version of a model in a store, as it is listed.

    `size_bytes` is what it takes on the local disk once fetched, as exactly as the store can tell. `digest` speaks for
    the contents of all its files: equal digests mean equal files, in every process and at every time. `folder` is the
    name of its folder in the store, where that is not the plain number (`00000123`). With a `fault`, a sentence for
    operators, the version is there and cannot be fetched, now or later: `fetch` raises StoreCorrupt. `needs` are the
    models that its config.pbtxt says it is made of (Triton's ensembles).
    """

    model: str
    version: int
    size_bytes: int
    digest: str
    folder: str = ""
    fault: str = ""
    needs: tuple[Need, ...] = ()


class Store(Protocol):
    """Where models come from. Every method can be called at once with others, and be cancelled at any await.

    A store keeps `<model>/<version>/...`, and beside the version folders the files that belong to the model itself
    (Triton's config.pbtxt, the embedded server's tbms.json). Model names are checked before they come here.
    """

    async def versions(self, model: str) -> tuple[Remote, ...]:
        """The versions of that model, in any order; empty where the store has no such model. Raises StoreError.

        Each folder whose name is a number is one, so two of them may have the same number (`1` and `001`).
        """
        ...

    async def fetch(self, remote: Remote, target: Path, progress: Callable[[int], None]) -> None:
        """Bring one version into `target`, the folder `<cache>/<model>/<version>`, which does not exist yet.

        `target` appears complete or not at all. The files of the model itself go beside it, each whole, before it
        appears. What has arrived before a cancellation, an error or a kill is kept in `partial(target)`, and another
        `fetch` of the same digest goes on from there. `progress` is told how many bytes of `remote.size_bytes` are in
        place so far, in total. Missing parent folders are made. Raises StoreError.
        """
        ...


def partial(target: Path) -> Path:
    """Where the unfinished fetch of `target` lies: beside it, and with a name that no model server reads."""
    return target.with_name(f".{target.name}.part")
