"""The files of a recording: a folder that is bounded in bytes and number, and what was recorded, in order.

A file is written to its end and never again: a process that starts begins a new one. So files need no renaming, and one
that is read while it is written is whole as far as it goes.
"""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ext_proc.errors import TbmsError
from ext_proc.recording.blocks import MARK, BlockWriter, RecordingError, read_blocks
from ext_proc.recording.calls import Portion, RecordedFleet
from mesh.system_words import system_words

_FILE = re.compile(r"calls-(\d{8,})\.tbms")


class RecordingFolder:
    """Writes portions. Files of `file_bytes` or a block more, `files` of them at most. Blocks; not for the event loop.

    Each file begins with the fleet, so that it says all by itself.
    """

    def __init__(self, folder: Path, file_bytes: int, files: int) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._files = files
        self._file: BinaryIO | None = None
        self._blocks = BlockWriter()
        self._fleet: RecordedFleet | None = None
        self._number = 0

    def append(self, portion: Portion) -> None:
        """One more portion. Raises OSError, and the next portion then begins a file of its own."""
        self._fleet = portion.fleet or self._fleet
        if self._file is not None and (self._file.tell() >= self._file_bytes or self._blocks.full):
            self.close()
        if self._file is None:
            self._begin()
            portion = Portion(portion.calls, self._fleet, portion.loads)
        assert self._file is not None
        try:
            self._file.write(self._blocks.write(portion))
            self._file.flush()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """The file that is written is at its end."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        there = files_of(self._folder)
        for old in there[: len(there) - self._files + 1]:
            old.unlink(missing_ok=True)
        self._number = 1 + max([self._number, *map(_number, there)])
        self._blocks = BlockWriter()
        self._file = (self._folder / f"calls-{self._number:08d}.tbms").open("xb")


def files_of(folder: Path) -> list[Path]:
    """The files of a recording's folder, the oldest first."""
    return sorted((each for each in folder.iterdir() if _FILE.fullmatch(each.name)), key=_number)


def _number(file: Path) -> int:
    found = _FILE.fullmatch(file.name)
    return 0 if found is None else int(found[1])


def is_recording(path: Path) -> bool:
    """Whether it is a folder, or a file that begins as a recording's does. Raises TbmsError if it cannot be read."""
    try:
        if path.is_dir():
            return True
        with path.open("rb") as file:
            return file.read(len(MARK)).startswith(MARK.rsplit(b" ", 1)[0])
    except OSError as error:
        raise TbmsError(f"{path}: cannot be read: {system_words(error)}") from None


def read_recording(paths: Sequence[Path]) -> Iterator[Portion]:
    """What these files and folders have: of each in its order, and of several as their times have it.

    Several are recordings of edges before the same nodes. Raises TbmsError that says which file is damaged, or that
    there is none.
    """
    if len(paths) == 1:
        return _read(paths[0])
    return heapq.merge(*map(_read, paths), key=_begin_of)


def _begin_of(portion: Portion) -> float:
    return portion.calls[0].at if portion.calls else 0.0


def _read(path: Path) -> Iterator[Portion]:
    for file in _files_in(path):
        try:
            with file.open("rb") as opened:
                yield from read_blocks(opened)
        except FileNotFoundError:
            continue  # the oldest one has gone since
        except RecordingError as error:
            raise TbmsError(f"{file}: {error}") from None
        except OSError as error:
            raise TbmsError(f"{file}: cannot be read: {system_words(error)}") from None


def _files_in(path: Path) -> Iterable[Path]:
    try:
        if not path.is_dir():
            return [path]
        files = files_of(path)
    except OSError as error:
        raise TbmsError(f"{path}: cannot be read: {system_words(error)}") from None
    if not files:
        raise TbmsError(f"{path}: there is no recording in it (files named calls-NUMBER.tbms)")
    return files
