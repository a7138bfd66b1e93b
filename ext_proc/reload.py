"""Watches the configuration file, and asks for a reload when it has changed."""

import asyncio
from pathlib import Path

Fingerprint = tuple[int, int, int] | None


def fingerprint(path: Path) -> Fingerprint:
    """What changes when a file is rewritten, replaced or (as Kubernetes does) its link is switched."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


async def watch(path: Path, wake: asyncio.Event, interval: float = 1.0) -> None:
    """Sets `wake` whenever the file is another one than before. Runs until cancelled.

    A look each second costs nothing, needs no library, and works on every file system that a
    configuration is mounted from. An absent file is waited for.
    """
    seen = fingerprint(path)
    while True:
        await asyncio.sleep(interval)
        now = fingerprint(path)
        if now is not None and now != seen:
            seen = now
            wake.set()
