"""The last safety: when the launcher dies, however it dies, its child processes die too.

A launcher that leaves by the door stops its children itself. One that is killed (SIGKILL, a crashed interpreter)
cannot, so it keeps this small process beside it and tells it on a pipe which process groups are alive. The end of
the pipe is the end of the launcher. Run as a script: reads `+PGID` and `-PGID` lines from stdin.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading
from typing import IO

_lock = threading.Lock()
_pipe: IO[str] | None = None


def watch(pgid: int) -> None:
    """Puts a process group under the reaper's care (starts the reaper on first use)."""
    _tell(f"+{pgid}\n")


def release(pgid: int) -> None:
    """The group has ended and was waited for; its number may be used again by others."""
    _tell(f"-{pgid}\n")


def _tell(line: str) -> None:
    global _pipe
    with _lock:
        if _pipe is None:
            _pipe = _start()
        _pipe.write(line)
        _pipe.flush()


def _start() -> IO[str]:
    reaper = subprocess.Popen(
        [sys.executable, "-SE", __file__], stdin=subprocess.PIPE, text=True, start_new_session=True, cwd="/"
    )
    assert reaper.stdin is not None

    def end(stdin: IO[str] = reaper.stdin) -> None:
        stdin.close()
        reaper.wait()

    atexit.register(end)
    return reaper.stdin


def main() -> None:
    """Keeps the set of live groups until stdin ends, then kills what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    alive: set[int] = set()
    for line in sys.stdin:
        pgid = int(line[1:])
        (alive.add if line[0] == "+" else alive.discard)(pgid)
    for pgid in alive:
        try:
            os.killpg(pgid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
