"""The loader protocol: what the cache asks of a model server, and how a model server fails."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mesh.errors import MeshError
from mesh.model_cache.books.names import Key


class LoadFailed(MeshError):
    """The model server works, and cannot load this model. The message is its own explanation."""


class ServerAway(MeshError):
    """The model server does not answer: it starts, was killed, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is known of a model once calls to it are answered. `memory_bytes` is None where the server does not tell."""

    memory_bytes: int | None = None


class Loader(Protocol):
    """One model server. Every method can be called at once with others, and be cancelled at any await."""

    async def reads(self, folder: str) -> bool:
        """Whether the server takes a folder of that name, decimal digits, for the version with that number.

        On the node's own disk a version's folder is its plain number, which every server takes. Raises ServerAway where
        the answer is the server's, and it is away.
        """
        ...

    async def load(self, key: Key, folder: Path) -> Loaded:
        """Return once the server answers calls for `key`, of which the files are `folder`/`<version>`.

        Other versions of the model that are loaded stay. Raises LoadFailed or ServerAway.
        """
        ...

    async def unload(self, key: Key, folder: Path) -> None:
        """Return once the server has let go of it. Not holding it is no error. Raises LoadFailed or ServerAway."""
        ...

    async def held(self, known: Iterable[Key]) -> frozenset[Key]:
        """Which models the server answers calls for.

        A server that cannot list its models is asked for those of `known`. Raises ServerAway.
        """
        ...

    async def batcher(self, key: Key) -> str:
        """What of a model that the server holds makes it gather calls of its own accord; empty: it does not, or it does
        not tell. Raises ServerAway.
        """
        ...

    async def lost(self) -> None:
        """Return when the connection to the server, once it stands, is lost: it may have ended, with all it held."""
        ...
