"""One child process: started in its own group, ready when a predicate says so, and never left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import aiohttp

from integration.stack import reaper

_POLL = 0.02
_LOOK = 0.1
_TAIL_LINES = 25
_NOT_THE_END = (signal.SIGSTOP, signal.SIGCONT)


class ProcessError(Exception):
    """A child did not come up, or ended by itself; the message carries the tail of its log."""


class Process:
    """A child process that writes stdout and stderr to `log`.

    It has its own process group, so Ctrl-C in a terminal reaches only the launcher, which then stops the children
    in order; `stop` and `kill` reach the child's own children too.
    """

    known: ClassVar["weakref.WeakSet[Process]"] = weakref.WeakSet()
    """Every one that somebody still holds."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = None if env is None else {**os.environ, **env}
        self._child: subprocess.Popen[bytes] | None = None
        self._watched = False
        self._told_to_end = False
        Process.known.add(self)

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The child's process id (the group's as well)."""
        if self._child is None:
            raise ProcessError(f"{self.name} was not started.")
        return self._child.pid

    @property
    def crash(self) -> int | None:
        """The number of the signal that has ended the child, if none was sent through this object."""
        status = None if self._child is None or self._told_to_end else self._child.poll()
        return None if status is None or status >= 0 else -status

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def start(self, ready: Callable[[], Awaitable[bool]], within: float = 60.0) -> None:
        """Starts the child and returns once `ready()` is true.

        Raises ProcessError if the child ends before, or `within` seconds pass; nothing is left running then.
        """
        if self.running:
            raise ProcessError(f"{self.name} runs already.")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                process_group=0,
            )
        self._told_to_end = False
        reaper.watch(self._child.pid)
        self._watched = True
        try:
            await self._until(ready, within)
        except BaseException:
            self.kill()
            raise

    async def stop(self, grace: float = 10.0) -> int | None:
        """SIGTERM, then SIGKILL after `grace` seconds. Returns the exit status (None: never started)."""
        if self._child is None:
            return None
        deadline = time.monotonic() + grace
        try:
            if self.running:
                self._told_to_end = True
                self._child.terminate()
            while self.running and time.monotonic() < deadline:
                await asyncio.sleep(_POLL)
        finally:
            self.kill()
        return self._child.returncode

    def kill(self) -> None:
        """SIGKILL to the whole group, waited for. Harmless when it has ended."""
        if self._child is None or not self._watched:
            return
        self._told_to_end = self._told_to_end or self.running
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        reaper.release(self._child.pid)
        self._watched = False

    def signal(self, number: signal.Signals) -> None:
        """Sends one signal to the child itself, not to its group."""
        if not self.running:
            raise ProcessError(f"{self.name} does not run.")
        self._told_to_end = self._told_to_end or number not in _NOT_THE_END
        os.kill(self.pid, number)

    def check(self) -> None:
        """Raises ProcessError with the tail of the log if the child ended by itself."""
        if self._child is None:
            raise ProcessError(f"{self.name} was not started.")
        status = self._child.poll()
        if status is not None:
            raise ProcessError(f"{self.name} ended with status {status}; the end of {self.log}:\n{self.tail()}")

    async def _until(self, ready: Callable[[], Awaitable[bool]], within: float) -> None:
        deadline = time.monotonic() + within
        while not await ready():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} was not ready after {within:g} s; the end of {self.log}:\n{self.tail()}"
                )
            await asyncio.sleep(_POLL)


def answers(url: str, status: int = 200) -> Callable[[], Awaitable[bool]]:
    """A readiness predicate: true once GET `url` gives `status`."""

    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http, http.get(url) as reply:
                return reply.status == status
        except (aiohttp.ClientError, TimeoutError):
            return False

    return ready


async def at_once() -> bool:
    """A readiness predicate for a child that needs no waiting for."""
    return True


async def output_of(name: str, command: Sequence[str | Path], log: Path) -> str:
    """Runs a child to its end; everything that it wrote. Raises ProcessError if its exit status is not 0."""
    log.unlink(missing_ok=True)
    process = Process(name, command, log)
    try:
        await process.start(at_once)
        while process.running:
            await asyncio.sleep(_LOOK)
        if await process.stop():
            process.check()
    finally:
        process.kill()
    return log.read_text()
