"""The unfinished fetch of one version on the local disk: it grows, survives a kill, and becomes the version or goes.

`.7.part/` beside the target `7` holds the files as they will lie in the model's folder (`7/model.onnx`,
`config.pbtxt`) and a manifest, written before the first byte, that says which state of the store they belong to.
Nothing here is asynchronous; every call may block on the disk.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mesh.model_cache.stores.durable_files import lock_folder, sync_folder, write_durably
from mesh.model_cache.stores.manifest import manifest, trusted
from mesh.model_cache.stores.object_source import Data
from mesh.model_cache.stores.objects import MANIFEST, Object, Package
from mesh.model_cache.stores.store import StoreCorrupt, StoreError, StoreFull, StoreTransient, partial

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MODE = 0o644  # the model server reads as another user
# A kernel built for throughput interrupts no system call for another thread, or only at its next tick (up to 10 ms):
# no call copies more than this, so that calls for resident models go on beside a fetch.
_BITE = 256 * 1024


class Staging:
    """One fetch of `package` into `target`. Call `open` first and `close` last; `close` may be called at any time."""

    def __init__(self, package: Package, target: Path) -> None:
        self._package = package
        self._target = target
        self._folder = partial(target)
        self._lock = -1
        self._file = -1
        self._path = ""

    def open(self) -> dict[str, int]:
        """Take the folder, and say how many bytes at the start of each file are there already.

        Kept is what an earlier fetch left of files that the store still has in the same state. Raises StoreTransient
        where another process fetches the same, StoreFull where the rest would not fit on the disk.
        """
        with _wording(self._target):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take()
            if self._target.exists():
                raise StoreError(f"{self._target} is there already.")
            held = self._keep()
            write_durably(self._folder / MANIFEST, manifest(self._package))
            missing = self._package.size_bytes - sum(held.values())
            disk = os.statvfs(self._folder)
            if missing > (free := disk.f_bavail * disk.f_frsize):
                raise StoreFull(f"{self._target} needs {missing} more bytes, and its disk has {free} free.")
            return held

    def write(self, each: Object, offset: int, data: Data) -> None:
        """Put the next bytes of a file in place. Files one after the other, each from its start to its end."""
        with _wording(self._target):
            if self._path != each.path:
                self._finish_file()
                path = self._folder / each.path
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
                self._path = each.path
            rest = memoryview(data)
            while rest:
                written = os.pwrite(self._file, rest[:_BITE], offset)
                offset += written
                rest = rest[written:]

    def publish(self) -> None:
        """Everything is there: make it durable, and let the target appear by one rename."""
        with _wording(self._target):
            self._finish_file()
            for each in self._package.objects:
                self._complete(self._folder / each.path, each)
            mine = self._folder / str(self._package.version)
            mine.mkdir(exist_ok=True)  # of an ensemble there is nothing else in it
            write_durably(mine / MANIFEST, manifest(self._package))
            for parent, _, _ in os.walk(self._folder):
                sync_folder(Path(parent))
            for each in self._package.shared:
                place = self._target.parent / each.path
                place.parent.mkdir(parents=True, exist_ok=True)
                (self._folder / each.path).replace(place)
                sync_folder(place.parent)
            mine.rename(self._target)
            sync_folder(self._target.parent)
            shutil.rmtree(self._folder, ignore_errors=True)

    def discard(self) -> None:
        """Leave nothing behind."""
        self.close_file()
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # not empty: other versions
            self._target.parent.rmdir()

    def close(self) -> None:
        """Let go of the folder; what is in it stays for another fetch."""
        self.close_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def close_file(self) -> None:
        """Close the file that is being written, if one is."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._path = -1, ""

    def _take(self) -> int:
        lock = lock_folder(self._folder)
        if lock is None:
            raise StoreTransient(f"Another process is fetching {self._target}.")
        return lock

    def _keep(self) -> dict[str, int]:
        known = set(trusted(self._folder))
        wanted = {each.path: each for each in self._package.objects}
        held: dict[str, int] = {}
        for parent, folders, names in os.walk(self._folder, topdown=False):
            for name in names:
                path = Path(parent, name)
                relative = path.relative_to(self._folder).as_posix()
                each, size = wanted.get(relative), path.lstat().st_size
                if each in known and each is not None and size <= each.size and not path.is_symlink():
                    held[relative] = size
                else:
                    path.unlink()
            for name in folders:
                with suppress(OSError):  # not empty: something in it is kept
                    Path(parent, name).rmdir()
        return held

    def _finish_file(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
        self.close_file()

    def _complete(self, path: Path, each: Object) -> None:
        if each.size == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(_MODE)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != each.size:
                raise StoreCorrupt(f"{path} has {size} bytes, not the {each.size} that the store promised.")
            os.fsync(file.fileno())  # costs nothing but for files that a killed fetch had finished


def clean_leftovers(models: Path, now: float, keep_seconds: float) -> int:
    """Remove the unfinished fetches below `<models>/<model>/` that are of no use; how many. Call it once at the start.

    Kept is what a fetch can go on from: it belongs to this boot of the machine, its version is not there, and a byte
    of it was written less than `keep_seconds` before `now` (seconds since 1970). A fetch that lives, in any process,
    is left alone. Blocks on the disk.
    """
    removed = 0
    for folder in models.glob("*/.*.part"):
        lock = lock_folder(folder)
        if lock is None:
            continue
        try:
            target = folder.with_name(folder.name.removeprefix(".").removesuffix(".part"))
            newest = max((path.lstat().st_mtime for path in folder.rglob("*")), default=0.0)
            if target.exists() or not trusted(folder) or newest < now - keep_seconds:
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        finally:
            os.close(lock)
    return removed


@contextmanager
def _wording(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(f"The disk of {target} is full, so it cannot be fetched.") from None
        raise StoreError(f"{target} cannot be written: {error.strerror}.") from None
