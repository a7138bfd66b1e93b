"""A folder as a store: a local disk, NFS, a volume that is mounted read-only."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mesh.model_cache.stores.object_source import Data, changed
from mesh.model_cache.stores.objects import MAX_DEPTH, Listing, Object, Odd, version_number
from mesh.model_cache.stores.settings import StoreSettings
from mesh.model_cache.stores.store import StoreCorrupt, StoreCredentials, StoreError, StoreMissing, StoreTransient

T = TypeVar("T")
_NOT_A_FILE = "is a link or a special file, and is not fetched"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: to open a pipe must not hang


class DiskSource:
    """Reads below one folder, and never through a link.

    A store may be written by others than those who run the node; a link in it could otherwise bring any file of the
    node into a model. What a link leads to is looked at only to see whether a model server would take it for a version.
    The etag is made of inode, change time and size, so a file that is rewritten in place counts as
    another one, however its modification time is set.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.name = settings.url
        self._root = settings.path
        self._seconds = settings.request_seconds
        # Its own threads: a network disk that hangs takes these, and not the ones that the whole process shares.
        self._threads = ThreadPoolExecutor(settings.concurrency, "tbms-disk-store")

    async def objects(self, model: str, limit: int) -> Listing:
        """See ObjectSource."""
        return await self._run(model, lambda: self._list(model, limit))

    async def read(self, model: str, each: Object, offset: int, length: int) -> Data:
        """See ObjectSource."""
        return await self._run(model, lambda: self._read(model, each, offset, length))

    async def _run(self, model: str, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise StoreTransient(f"{self.name} gave no answer within {self._seconds:g} s.") from None
        except FileNotFoundError:
            raise StoreMissing(f"In {self.name} a part of {model!a} is gone.") from None
        except PermissionError as error:
            raise StoreCredentials(f"{self.name} may not be read: {error.filename!a}.") from None
        except OSError as error:
            raise StoreTransient(f"{self.name} cannot be read: {error.strerror}.") from None

    def _list(self, model: str, limit: int) -> Listing:
        try:
            root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreMissing(f"{self.name} is not a folder.") from None
        try:
            try:
                top = self._enter(model, root)
            except (FileNotFoundError, NotADirectoryError):
                return Listing()
            found = Listing()
            self._walk(model, "", top, limit, found)
            return found
        finally:
            os.close(root)

    def _walk(self, model: str, path: str, folder: int, limit: int, found: Listing) -> None:
        """Adds what is below an open folder, and closes it."""
        try:
            if path.count("/") > MAX_DEPTH:
                found.odd.append(Odd(path.rstrip("/"), f"is deeper than {MAX_DEPTH} folders"))
                return
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not path and entry.name.startswith("."):
                        continue  # not walked: a `.git` may hold more files than the model
                    before = len(found)
                    below = self._take(path + entry.name, entry, folder, found)
                    if below is not None:
                        self._walk(model, f"{path}{entry.name}/", below, limit, found)
                        if not path and len(found) == before:
                            found.empty.append(entry.name)
                    if len(found) > limit:
                        raise StoreCorrupt(f"In {self.name} the model {model!a} has more than {limit} files.")
        finally:
            os.close(folder)

    def _take(self, path: str, entry: "os.DirEntry[str]", at: int, found: Listing) -> int | None:
        """Adds a file or what is none; a folder is opened for the caller."""
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return self._enter(entry.name, at)
        except (FileNotFoundError, NotADirectoryError):
            return None  # removed or renamed meanwhile, as at the end of an upload
        except PermissionError:
            found.odd.append(Odd(path, "may not be read", folder=True))
            return None
        except StoreCorrupt:
            found.odd.append(Odd(path, _NOT_A_FILE, folder=True))
            return None
        if stat.S_ISREG(status.st_mode):
            found.files.append(Object(path, status.st_size, _etag(status)))
        else:
            found.odd.append(Odd(path, _NOT_A_FILE, "/" not in path and _leads_to_a_version(entry)))
        return None

    def _read(self, model: str, each: Object, offset: int, length: int) -> bytes:
        with self._open(model, each.path) as file:
            if _etag(os.fstat(file)) != each.etag:
                raise changed(self.name, model, each)
            data = os.pread(file, length, offset)
            while len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
                data += more
            if _etag(os.fstat(file)) != each.etag:
                raise changed(self.name, model, each)
            return data

    @contextmanager
    def _open(self, model: str, path: str) -> Iterator[int]:
        *folders, name = path.split("/")
        at = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in (model, *folders):
                below = self._enter(folder, at)
                os.close(at)
                at = below
            try:
                file = os.open(name, _FILE, dir_fd=at)
            except OSError as error:
                raise self._link_or(error, name, at) from None
        finally:
            os.close(at)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise self._not_a_file(f"{model}/{path}")
            yield file
        finally:
            os.close(file)

    def _enter(self, folder: str, at: int) -> int:
        try:
            return os.open(folder, _FOLDER, dir_fd=at)
        except OSError as error:
            raise self._link_or(error, folder, at) from None

    def _link_or(self, error: OSError, name: str, at: int) -> StoreError | OSError:
        try:
            link = stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
        except OSError:
            return error
        return self._not_a_file(name) if link else error

    def _not_a_file(self, path: str) -> StoreCorrupt:
        return StoreCorrupt(f"In {self.name} {path!a} {_NOT_A_FILE}.")


def _leads_to_a_version(link: "os.DirEntry[str]") -> bool:
    """Whether a model server, which follows links, would take it for the folder of a version."""
    try:
        return version_number(link.name) is not None and link.is_dir()
    except OSError:  # a link to itself, or to where we may not look
        return False


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
