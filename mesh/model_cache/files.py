"""The models on the local disk: `models/<model>/<version>/`, which is the model server's repository, and `trash/`.

Whole or not at all: a version's folder appears by one rename (see `store.Store.fetch`) and goes by one rename into the
trash, so that no kill at any time leaves half a model where a model server could read it.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mesh.model_cache.books.names import MAX_VERSION, Key, check_name
from mesh.model_cache.errors import BadName
from mesh.model_cache.stores.store import partial


@dataclass(frozen=True, slots=True)
class Found:
    """One version on the disk. An unfinished fetch is not `complete`; the digest is empty where it is not known."""

    key: Key
    size_bytes: int
    complete: bool
    digest: str


class Files:
    """The cache's folder. Only `scan`, `sweep` and `prepare` take long: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self._trash = folder / "trash"

    def prepare(self) -> None:
        """Make the folders, and empty the trash that an earlier process has left."""
        self.models.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._trash, ignore_errors=True)
        self._trash.mkdir(exist_ok=True)

    def model(self, model: str) -> Path:
        """The folder of a model."""
        return self.models / model

    def version(self, key: Key) -> Path:
        """The folder of one version."""
        return self.models / key.model / str(key.version)

    def note(self, key: Key, digest: str) -> None:
        """Write down what was fetched; only with this note can the files be trusted to be that version later on."""
        note = self._note(key)
        draft = note.with_suffix(".draft")
        draft.write_text(json.dumps({"digest": digest}))
        draft.replace(note)

    def discard(self, key: Key, whole_model: bool) -> None:
        """Move one version out of the way (with `whole_model`, everything of its model); `sweep` frees the disk."""
        if whole_model:
            self._throw(self.model(key.model))
            return
        target = self.version(key)
        for path in (self._note(key), target, partial(target)):
            self._throw(path)

    def sweep(self) -> None:
        """Free the disk of what was discarded."""
        for path in list(self._trash.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def scan(self) -> list[Found]:
        """Every version on the disk, whole or unfinished, those used last (as far as the disk knows) at the end."""
        found: list[tuple[float, Found]] = []
        for folder in self.models.iterdir():
            if folder.is_dir() and _is_name(folder.name):
                found.extend(self._versions(folder))
        return [each for _, each in sorted(found, key=lambda pair: pair[0])]

    def _versions(self, folder: Path) -> Iterator[tuple[float, Found]]:
        for child in folder.iterdir():
            complete = child.name.isdigit()
            digits = child.name if complete else child.name.removeprefix(".").removesuffix(".part")
            if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) <= MAX_VERSION):
                continue
            key = Key(folder.name, int(digits))
            if child not in (self.version(key), partial(self.version(key))) or not child.is_dir():
                continue
            yield child.stat().st_mtime, Found(key, size_of(child), complete, self._digest(key) if complete else "")

    def _digest(self, key: Key) -> str:
        try:
            note = json.loads(self._note(key).read_bytes())
        except (OSError, ValueError):
            return ""
        digest = note.get("digest") if isinstance(note, dict) else None
        return digest if isinstance(digest, str) else ""

    def _note(self, key: Key) -> Path:
        return self.model(key.model) / f".{key.version}.json"

    def _throw(self, path: Path) -> None:
        try:
            path.rename(self._trash / uuid.uuid4().hex)
        except FileNotFoundError:
            return


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            total += (Path(parent) / name).lstat().st_size
    return total


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except BadName:
        return False
    return True
