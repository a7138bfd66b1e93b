"""The objects of a model in a store, and which of them make up each version. Pure."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from mesh.model_cache.books.names import MAX_VERSION, check_name
from mesh.model_cache.errors import BadName
from mesh.model_cache.stores.store import StoreCorrupt

MANIFEST = ".tbms-manifest.json"
"""The note that a fetch leaves in a version's folder; a file of that name in a store is nobody's model."""

MAX_PATH = 1024  # bytes of UTF-8, the longest key of S3 and Azure
MAX_DEPTH = 32
_VERSION = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Object:
    """One file in a store. `path` is relative to the model's folder; equal `etag` means equal contents."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Package:
    """What one version is made of: its own files (`<version>/...`) and those of the model itself (`shared`)."""

    model: str
    version: int
    own: tuple[Object, ...]
    shared: tuple[Object, ...]

    @property
    def objects(self) -> tuple[Object, ...]:
        """All files, those of the version first."""
        return self.own + self.shared

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.objects)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over path, size and etag of every file, in hexadecimal."""
        lines = sorted(json.dumps([each.path, each.size, each.etag]) for each in self.objects)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def packages(model: str, objects: Iterable[Object]) -> Mapping[int, Package]:
    """The versions of a model by their number, from everything that the store lists under its name.

    Left out: empty objects that stand for a folder, an object named as the model itself, dot files beside the
    versions, and number folders that are no version (leading zeros, over 63 bits), as Triton leaves them out. Raises
    StoreCorrupt for a name that could leave the folder or that no file can have, for a name that is listed twice, and
    for one that is both file and folder.
    """
    listed = list(objects)
    folders = {ancestor for each in listed for ancestor in _ancestors(each.path)}
    files: dict[str, Object] = {}
    for each in listed:
        path = each.path
        if not path or (each.size == 0 and (path in folders or _VERSION.fullmatch(path))):
            continue
        check_path(model, path)
        if path in files:
            raise StoreCorrupt(f"The store lists {_shown(model, path)} twice.")
        if path in folders:
            raise StoreCorrupt(f"In the store {_shown(model, path)} is a file and a folder.")
        if path.rpartition("/")[2] != MANIFEST:
            files[path] = each
    own: dict[int, list[Object]] = {}
    shared: list[Object] = []
    for path in sorted(files):
        top, slash, _ = path.partition("/")
        if top.isdecimal():
            if slash and _VERSION.fullmatch(top) and int(top) <= MAX_VERSION:
                own.setdefault(int(top), []).append(files[path])
        elif not top.startswith("."):
            shared.append(files[path])
    return {version: Package(model, version, tuple(mine), tuple(shared)) for version, mine in own.items()}


def check_path(model: str, path: str) -> None:
    """Raises StoreCorrupt for a path that is not a safe relative path of at most MAX_DEPTH names."""
    names = path.split("/", MAX_DEPTH)
    try:
        if len(names) > MAX_DEPTH:
            raise BadName(f"The file name is deeper than {MAX_DEPTH} folders.")
        for name in names:
            check_name(name, "file name")
    except BadName as error:
        raise StoreCorrupt(f"The store has a name that cannot be a file: {_shown(model, path)}. {error}") from None
    if len(path.encode()) > MAX_PATH:
        raise StoreCorrupt(f"The store has a name of more than {MAX_PATH} bytes: {_shown(model, path)}.")


def _ancestors(path: str) -> Iterable[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _shown(model: str, path: str) -> str:
    return ascii(f"{model}/{path}"[:200])
