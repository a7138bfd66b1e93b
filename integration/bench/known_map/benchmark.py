"""`make bench NAME=known-map`: what a map of known calls costs Envoy: bytes, main thread, memory, time, and latency.

One Envoy with one worker and no server: every call is known, and answered by a second Envoy. Maps of several sizes are
put in the place of an empty one, each several times. CPU is the main thread's own, from the kernel's scheduler (ns),
less what it takes at rest. Then calls are made one at a time over the largest usual map, while it stays and while it is
replaced ten times a second, by turns.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from ext_proc.envoy_config import EnvoySettings, render
from ext_proc.known.envoy_stats import EnvoyAway, ask_envoy
from ext_proc.known.forms import Form
from ext_proc.known.map_file import MapWriter
from ext_proc.whole_file import replace_file
from integration.bench.routing.h2load import Load, Request, h2load
from integration.peers.answerer import answerer
from integration.stack.envoys import NEWEST, envoy_binary
from integration.stack.ports import free_ports
from integration.stack.process import Process, answers
from mesh.known_map import PARTS, KnownModel
from mesh.node import Node

_SIZES = (1_000, 5_000, 20_000)
_REPEATS = 5
_QUIET_SECONDS = 0.25
"""Without more CPU for so long the main thread has done its work."""
_CHANGES_A_SECOND = 10
_ROUNDS, _CALLS = 3, 8_000
_LATENCY_SIZE = 1_000


@dataclass(frozen=True)
class Change:
    """One size of map: the file, and medians of what its change costs. CPU of the main thread and times in ms."""

    models: int
    bytes: int
    cpu_ms: float
    taken_ms: float
    allocated_bytes: float
    encode_ms: float


class Bench:
    """An Envoy and its map. `endpoint` is the upstream, `folder` where the files are."""

    def __init__(self, envoy: Process, admin: str, base: str, file: Path, endpoint: str) -> None:
        self._envoy = envoy
        self._admin = admin
        self._base = base
        self._file = file
        self._endpoint = endpoint
        self._versions = 0

    def content(self, models: int, writer: MapWriter | None = None) -> tuple[bytes, str]:
        """A file of so many models, one form each, two nodes in order; and its version."""
        self._versions += 1
        version, order = f"v{self._versions}", (self._endpoint, "127.0.0.1:1")
        known = [
            KnownModel(f"tenant-{n}-model", int(Form.TFS_PREDICT), {"rest": ((PARTS, order),)}) for n in range(models)
        ]
        return (writer or MapWriter(models or 1)).write(known, version), version

    async def change(self, models: int) -> Change:
        """Puts maps of that size in the place of empty ones."""
        cpu, taken, allocated, encode = [], [], [], []
        content = b""
        for _ in range(_REPEATS):
            await self._settled(self.content(0)[0])
            empty = await self._allocated()
            started = time.process_time()
            content, _ = self.content(models)
            encode.append(1e3 * (time.process_time() - started))
            cpu.append(await self._settled(content))
            allocated.append(await self._allocated() - empty)
            await self._settled(self.content(0)[0])
            content, version = self.content(models)
            taken.append(await self._until_taken(content, version))
        median = statistics.median
        return Change(models, len(content), median(cpu), median(taken), median(allocated), median(encode))

    async def latencies(self) -> tuple[list[Load], list[Load]]:
        """Calls one at a time over a map that stays, and over one that changes, alternating."""
        request = Request("/v1/models/tenant-7-model:predict", {"content-type": "application/json"}, self._body())
        await self._settled(self.content(_LATENCY_SIZE)[0])
        await h2load(self._base, request, 500, 1, 1)
        still, changing = [], []
        for _ in range(_ROUNDS):
            still.append(await h2load(self._base, request, _CALLS, 1, 1))
            changes = asyncio.create_task(self._keep_changing())
            try:
                changing.append(await h2load(self._base, request, _CALLS, 1, 1))
            finally:
                changes.cancel()
                with suppress(asyncio.CancelledError):
                    await changes
        return still, changing

    async def _allocated(self) -> int:
        """Bytes that Envoy has on its heap, without what its allocator keeps for later."""
        async with aiohttp.ClientSession() as http, http.get(f"http://{self._admin}/memory") as reply:
            return int((await reply.json(content_type=None))["allocated"])

    def _body(self) -> Path:
        body = self._file.with_name("body.json")
        body.write_text('{"instances": [[0.25]]}')
        return body

    async def _keep_changing(self) -> None:
        writer = MapWriter(_LATENCY_SIZE)
        while True:
            content, _ = self.content(_LATENCY_SIZE, writer)
            await asyncio.to_thread(replace_file, self._file, content)
            await asyncio.sleep(1 / _CHANGES_A_SECOND)

    async def _settled(self, content: bytes) -> float:
        """Puts the file there and waits until Envoy's main thread rests; what that took of it, in ms."""
        before, started = _main_thread(self._envoy.pid), time.monotonic()
        await asyncio.sleep(_QUIET_SECONDS)
        rest = (_main_thread(self._envoy.pid) - before) / (time.monotonic() - started)
        before, started = _main_thread(self._envoy.pid), time.monotonic()
        replace_file(self._file, content)
        while True:
            seen = _main_thread(self._envoy.pid)
            await asyncio.sleep(_QUIET_SECONDS)
            now = _main_thread(self._envoy.pid)
            if now - seen < 2e-3 and time.monotonic() - started > 2 * _QUIET_SECONDS:
                return max(0.0, 1e3 * (now - before - rest * (time.monotonic() - started)))

    async def _until_taken(self, content: bytes, version: str) -> float:
        replace_file(self._file, content)
        started = time.monotonic()
        async with asyncio.timeout(60):
            while not await self._has(version):
                await asyncio.sleep(0.005)
        return 1e3 * (time.monotonic() - started)

    async def _has(self, version: str) -> bool:
        try:
            return (await ask_envoy(self._admin)).version == version
        except EnvoyAway:  # it is the main thread that answers
            return False


async def measure() -> dict[str, float]:
    """Runs every case, prints a table, and returns the figures."""
    async with _bench() as bench:
        changes = [await bench.change(size) for size in _SIZES]
        still, changing = await bench.latencies()
    _print(changes, still, changing)
    thousand, largest = changes[0], changes[-1]
    return {
        "known_map_ms_per_1000": thousand.cpu_ms * 1000 / thousand.models,
        **{f"known_map_taken_ms_{each.models}": each.taken_ms for each in changes},
        "known_map_bytes_per_model": largest.bytes / largest.models,
        "known_map_memory_bytes_per_model": largest.allocated_bytes / largest.models,
        "known_map_p99_still_ms": _quantile(still, 0.99),
        "known_map_p99_changing_ms": _quantile(changing, 0.99),
    }


@asynccontextmanager
async def _bench() -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as name:
        folder = Path(name)
        async with answerer(folder) as upstream:
            listen, egress, admin = (f"127.0.0.1:{port}" for port in free_ports(3))
            file, config = folder / "known.pb", folder / "envoy.yaml"
            replace_file(file, MapWriter(1).write([], "v0"))
            # Without health checks: the main thread is to have nothing else to do.
            settings = EnvoySettings(listen=listen, egress=egress, admin=admin, health_seconds=0)
            nodes, server = [Node("upstream", rest=upstream)], f"unix:{folder}/nobody.sock"
            config.write_text(render(settings, version=NEWEST, server=server, nodes=nodes, known=str(file)))
            command: list[str | Path] = [envoy_binary(), "--config-path", config]
            command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
            envoy = Process("Envoy", command, folder / "envoy.log")
            try:
                await envoy.start(answers(f"http://{admin}/ready"))
                yield Bench(envoy, admin, f"http://{listen}", file, upstream)
            finally:
                await envoy.stop()


def _main_thread(pid: int) -> float:
    """Seconds on a CPU of the process's first thread (proc_pid_schedstat(5), first field, ns)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def _quantile(loads: list[Load], share: float) -> float:
    return statistics.median(load.quantile(share) for load in loads)


def _print(changes: list[Change], still: list[Load], changing: list[Load]) -> None:
    table = Table(title=f"A map in the place of an empty one; medians of {_REPEATS}", title_justify="left")
    for heading in (
        "models",
        "bytes",
        "Envoy's main thread ms",
        "until taken ms",
        "Envoy's memory MiB",
        "writing it ms",
    ):
        table.add_column(heading, justify="right")
    for each in changes:
        memory = each.allocated_bytes / (1 << 20)
        table.add_row(
            f"{each.models:,}", f"{each.bytes:,}", f"{each.cpu_ms:.1f}", f"{each.taken_ms:.0f}",
            f"{memory:.1f}", f"{each.encode_ms:.1f}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    for name, loads in (("stays", still), (f"changes {_CHANGES_A_SECOND} times a second", changing)):
        quantiles = ", ".join(f"p{100 * share:g} {_quantile(loads, share):.3f} ms" for share in (0.5, 0.99, 0.999))
        console.print(f"Calls one at a time, a map of {_LATENCY_SIZE:,} models that {name}: {quantiles}")
