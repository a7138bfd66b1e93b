"""h2load, the load generator of nghttp2: closed loop, a fixed number of requests, every answer checked."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from integration.stack import reaper

_FINISHED = re.compile(r"^finished in ([\d.]+)(us|ms|s|m), ([\d.]+) req/s", re.MULTILINE)
_STATUSES = re.compile(r"^status codes: (\d+) 2xx,", re.MULTILINE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """The load generator is missing, failed, or got answers that are not 2xx."""


@dataclass(frozen=True)
class Request:
    """What is sent again and again. A request with a `body` file is a POST, else a GET."""

    path: str
    headers: Mapping[str, str]
    body: Path | None = None


@dataclass(frozen=True)
class Load:
    """What a run measured: requests per second, and each request's milliseconds, ascending."""

    requests: int
    rate: float
    latencies: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """The latency in ms that `share` of the requests did not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


async def h2load(base: str, request: Request, requests: int, clients: int, streams: int) -> Load:
    """Sends `requests` over `clients` HTTP/2 connections with `streams` in flight on each.

    Raises LoadError unless every answer is 2xx.
    """
    program = shutil.which("h2load")
    if program is None:
        raise LoadError("h2load is missing: apt-get install nghttp2-client.")
    with tempfile.TemporaryDirectory(prefix="tbms-h2load-") as folder:
        log = Path(folder) / "requests"
        command = [program, f"--requests={requests}", f"--clients={clients}", f"--max-concurrent-streams={streams}"]
        command += [f"--log-file={log}", *(f"--header={name}: {value}" for name, value in request.headers.items())]
        if request.body is not None:
            command.append(f"--data={request.body}")
        output = await _run([*command, base + request.path])
        finished, statuses = _FINISHED.search(output), _STATUSES.search(output)
        if finished is None or statuses is None or int(statuses[1]) != requests:
            raise LoadError(f"Not every answer of {base}{request.path} was 2xx:\n{output[-2000:]}")
        latencies = sorted(int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines())
    seconds = float(finished[1]) * _SECONDS[finished[2]]
    return Load(requests, requests / seconds, tuple(latencies))


async def _run(command: list[str]) -> str:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, process_group=0
    )
    reaper.watch(child.pid)
    try:
        output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
        reaper.release(child.pid)
    return output.decode(errors="replace")
