"""A process that only sleeps, to learn how late the machine itself wakes a process up.

Started as `python -m integration.bench.deadline.sleeper`.
"""

import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from integration.stack.process import Process

_NAP = 0.005
# Said before the first nap: from then on SIGTERM is answered with the list.
_NAPPING = "napping\n"


@asynccontextmanager
async def sleeper(folder: Path) -> AsyncIterator[list[float]]:
    """Runs one for the length of a block; the list holds its lateness in ms, nap by nap, after the block."""
    lateness: list[float] = []
    process = Process("sleeper", [sys.executable, "-m", "integration.bench.deadline.sleeper"], folder / "sleeper.log")

    async def naps() -> bool:
        return _NAPPING in process.log.read_text()

    try:
        await process.start(naps)
        yield lateness
        await process.stop()
        lateness += json.loads(process.log.read_text().removeprefix(_NAPPING))
    finally:
        process.kill()


def main() -> None:
    """Naps until SIGTERM; prints how late each nap ended, in ms."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    print(_NAPPING, end="", flush=True)
    lateness = []
    while not stopped:
        began = time.monotonic()
        time.sleep(_NAP)
        lateness.append(round(1000 * (time.monotonic() - began - _NAP), 3))
    print(json.dumps(lateness))


if __name__ == "__main__":
    main()
