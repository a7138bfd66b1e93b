"""Watches the configuration file, asks for a reload when it has changed, and reads it again."""

import asyncio
from pathlib import Path

from ext_proc.config import Config, parse, read
from ext_proc.errors import ConfigError

Fingerprint = tuple[int, int, int] | None


def fingerprint(path: Path) -> Fingerprint:
    """What changes when a file is rewritten, replaced or (as Kubernetes does) its link is switched."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def read_again(path: Path) -> Config:
    """The file's new content. Raises ConfigError, also for an empty file: that is one which somebody is writing.

    At a start an empty file is the default configuration; taken over by a server with nodes it would drop them all.
    """
    text = read(path)
    if not text:
        raise ConfigError(f"{path}: the file is empty")
    return parse(text, str(path))


async def watch(path: Path, wake: asyncio.Event, interval: float = 1.0) -> None:
    """Sets `wake` whenever the file is another one than before, and has been for a tenth of `interval` (seconds).

    Runs until cancelled. A look each second costs nothing, needs no library, and works on every file system that a
    configuration is mounted from. An absent file is waited for, and so is one that is still being written.
    """
    seen = fingerprint(path)
    while True:
        await asyncio.sleep(interval)
        now = fingerprint(path)
        if now is None or now == seen:
            continue
        await asyncio.sleep(interval / 10)
        if fingerprint(path) == now:
            seen = now
            wake.set()
