"""The objects of a model in a store, and which of them make up each version. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mesh.digits import number
from mesh.model_cache.books.names import MAX_VERSION, check_name
from mesh.model_cache.books.needs import Need
from mesh.model_cache.errors import BadName
from mesh.model_cache.stores.store import StoreCorrupt
from mesh.names import MAX_NAME

MANIFEST = ".tbms-manifest.json"
"""The note that a fetch leaves in a version's folder; what begins with that name in a store is nobody's model."""

SERVERS_OWN = frozenset({"config.pbtxt", "configs", "tbms.json"})
"""What the model servers themselves read beside the versions. Without it a model would load, and be another one."""

MAX_PATH = 1024  # bytes of UTF-8, the longest key of S3 and Azure
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Object:
    """One file in a store. `path` is relative to the model's folder; equal `etag` means equal contents."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Odd:
    """What a store lists and nobody can fetch: a link, a special file, a folder that may not be read.

    `fault` goes on from the path, as in "is a link". `folder`: a model server in its place would see a folder.
    """

    path: str
    fault: str
    folder: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that a store lists below a model's folder; names are as the store gives them.

    `empty` are folders in the model's own that hold no file, of a store that has folders. A cloud has none; an empty
    object may stand for one there.
    """

    files: list[Object] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files) + len(self.odd) + len(self.empty)

    @property
    def empty_versions(self) -> set[str]:
        """The names of folders that hold no file, and would be those of versions."""
        markers = (each.path for each in self.files if each.size == 0)
        return {name for name in (*self.empty, *markers) if version_number(name) is not None}


@dataclass(frozen=True)
class Package:
    """What one version is made of: its own files (`<version>/...`) and those of the model itself (`shared`).

    Paths are as they will lie on the node's disk, where a version's folder is its plain number; `folder` is its name in
    the store (`00000123`). With a `fault`, one sentence, the version is there and cannot be fetched.
    """

    model: str
    version: int
    folder: str
    own: tuple[Object, ...]
    shared: tuple[Object, ...]
    fault: str = ""
    needs: tuple[Need, ...] = ()

    @property
    def objects(self) -> tuple[Object, ...]:
        """All files, those of the version first."""
        return self.own + self.shared

    def in_store(self, path: str) -> str:
        """The path in the store of one of the files."""
        top, slash, below = path.partition("/")
        return f"{self.folder}/{below}" if slash and top == str(self.version) else path

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.objects)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over path, size and etag of every file, in hexadecimal."""
        lines = sorted(json.dumps([each.path, each.size, each.etag]) for each in self.objects)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """The versions of a model by the name of their folder, and what of its folder belongs to none (a sentence each)."""

    packages: Mapping[str, Package]
    left_out: tuple[str, ...] = ()


def version_number(folder: str) -> int | None:
    """The version that a folder of this name is: decimal digits, zeros in front allowed; None for any other name.

    As TF Serving's ParseVersionNumber (`strings::safe_strto64`), but for signs and spaces, which it would take: no
    call could name such a version. Which of these names a model server takes is its loader's to say.
    """
    if len(folder) > MAX_NAME or not (folder.isascii() and folder.isdigit()):
        return None
    value = number(folder.lstrip("0") or "0", 19)
    return value if value is not None and value <= MAX_VERSION else None


def contents(model: str, listing: Listing, needs: tuple[Need, ...] | None = None, config_fault: str = "") -> Contents:
    """The versions of a model, from everything that the store lists under its name.

    `needs` are the models that it is made of by its config.pbtxt; None for one that is made of no others, of which each
    version has a file. `config_fault`, a sentence: what that file says cannot be known.

    | what is listed                                                  | then                                      |
    |-----------------------------------------------------------------|-------------------------------------------|
    | a file below a folder whose name is a number                    | belongs to that version                   |
    | a folder without a file, or an empty object that stands for it  | does not exist                            |
    | the same, named as a number, of a model that is made of others  | is a version of it                        |
    | no version at all, of a model that is made of others            | version 1 of it is there                  |
    | our own manifest's name, file or folder                         | silently left out                         |
    | beside the versions: a file, or a folder with any other name    | belongs to the model, goes to each version|
    | beside: hidden; named as a number and no folder; over 63 bits   | left out                                  |
    | beside: a link, a special file, a name that no file can have    | left out                                  |
    | the same in place of what servers read there (SERVERS_OWN)      | a fault of every version                  |
    | inside a version, or in its place: the same                     | a fault of that version                   |

    A name that no file can have: one that leaves the folder, holds a control character, is too long or too deep, is
    listed twice, or is both file and folder. Whether a version is whole cannot be seen in a list: it is one as soon as
    one file of it is there. One whose upload goes on changes under its fetch, which then fails and is made again, or
    does not load, and is fetched again when its list has changed. So a version is best uploaded under a name that is no
    number and hidden (`.2.upload`), and renamed; or, where nothing can be renamed, with the file that the server opens
    first as the last one.
    """
    places: dict[str, list[Object]] = {}
    faults: dict[str, list[str]] = {}
    for each in listing.files:
        top, slash, _ = each.path.partition("/")
        if each.path and not any(name.startswith(MANIFEST) for name in each.path.split("/")):
            places.setdefault(top if slash and version_number(top) is not None else "", []).append(each)
    for odd in listing.odd:
        top, slash, _ = odd.path.partition("/")
        inside = (slash or odd.folder) and version_number(top) is not None
        faults.setdefault(top if inside else "", []).append(_sentence(model, odd.path, odd.fault))
        if not inside and top in SERVERS_OWN:
            faults.setdefault("*", []).append(faults[""][-1])
    shared: list[Object] = []
    for each, fault in _checked(model, places.pop("", [])):
        top = each.path.partition("/")[0]
        if not fault and (top.startswith(".") or top.isdecimal()):
            fault = _sentence(model, each.path, "belongs to no version")
        if not fault:
            shared.append(each)
            continue
        faults.setdefault("", []).append(fault)
        if top in SERVERS_OWN:
            faults.setdefault("*", []).append(fault)
    of_all = faults.pop("*", [])
    left_out = tuple(faults.pop("", []))
    found: dict[str, Package] = {}
    bare: set[str] = set()
    if needs is not None or (config_fault and not places):
        bare = listing.empty_versions or (set() if places else {"1"})
        of_all += [config_fault] if config_fault else []
    for folder in sorted({*places, *faults, *bare}):
        version = version_number(folder)
        assert version is not None
        own = []
        wrong = faults.get(folder, []) + of_all
        for each, fault in _checked(model, places.get(folder, [])):
            if fault:
                wrong.append(fault)
            else:
                own.append(Object(f"{version}{each.path[len(folder) :]}", each.size, each.etag))
        if own or wrong or folder in bare:
            fault = wrong[0] if wrong else ""
            found[folder] = Package(model, version, folder, tuple(own), tuple(shared), fault, needs or ())
    return Contents(found, left_out)


def _checked(model: str, files: list[Object]) -> Iterable[tuple[Object, str]]:
    """The files of one place by path, each with what is wrong with it; without those that stand for folders."""
    folders = {ancestor for each in files for ancestor in _ancestors(each.path)}
    last = None
    for each in sorted(files, key=lambda each: each.path):
        if each.size == 0 and each.path in folders:
            continue
        try:
            check_path(model, each.path)
        except StoreCorrupt as error:
            yield each, str(error)
        else:
            wrong = "is a file and a folder" if each.path in folders else "is listed twice" if each.path == last else ""
            yield each, _sentence(model, each.path, wrong) if wrong else ""
        last = each.path


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


def _sentence(model: str, path: str, fault: str) -> str:
    return f"In the store {_shown(model, path)} {fault}."


def _shown(model: str, path: str) -> str:
    return ascii(f"{model}/{path}"[:200])
