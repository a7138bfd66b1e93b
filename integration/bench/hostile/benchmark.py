"""`make bench NAME=hostile`: healthy calls beside a peer that does its worst, one kind of attack after the other.

A real `tbms serve` with a real Envoy in front, whose upstream answers by itself. Healthy plain calls of REST come
open-loop at 100 a second through Envoy, in rounds without and with the attack, each kind first in turn. Attacks come
from a process of their own, at a bounded rate, on the server's own socket (as a peer that is no Envoy) or, where the
listener takes them, through Envoy.

What the figures are: `healthy_p99_ms_beside` is the 99th percentile of the healthy calls beside an attack, the median
of the rounds, of the worst attack; `healthy_p99_ratio` is that over the same without. `longest_pause_ms` is the longest
time in which the server's loop answered nobody, the median of the rounds, of the worst attack. `rss_growth_mib` is
what the server's process has more after an attack, once its connections are gone; what it takes meanwhile is in the
table (a call of 62 MiB takes 62 MiB).

What they are not: a measure of how much traffic an attacker needs to use up a machine. At some rate anyone who may
connect takes all of the CPU, of Envoy first. And p99 includes what attack, Envoy, server and load generator take from
each other on two cores; the pauses do not.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from integration.bench.hostile.attacker import Sent, attack
from integration.bench.hostile.attacks import ATTACKS
from integration.bench.hostile.probe import probing, resident_mib
from integration.bench.open_loop import Play, Sample, open_loop, quantile
from integration.peers.answerer import answerer
from integration.stack.ports import free_port
from integration.stack.process import ProcessError
from integration.stack.sidecar import Section, Sidecar
from mesh.node import Node

_MODEL = "bench"
_RATE = 100.0
_SECONDS = 3.0
# The attack begins with the load generator's process, and lasts until its calls are answered.
_ATTACK_SECONDS = 4.5
_ROUNDS = 3
# What is left of an attack is measured once so little is left, in MiB, or after so many seconds: its calls may go on.
_LITTLE, _SETTLE_SECONDS = 4.0, 10.0
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Round:
    """Healthy calls without and with the attack, in ms, and what was seen of the server meanwhile."""

    without: float
    beside: float
    pause_ms: float
    peak_mib: float
    sent: Sent


@dataclass(frozen=True)
class Outcome:
    """All rounds of one attack. `growth` is what the process has more after them, in MiB."""

    rounds: Sequence[Round]
    growth: float

    @property
    def beside(self) -> float:
        """The healthy calls' 99th percentile beside the attack, in ms."""
        return statistics.median(each.beside for each in self.rounds)

    @property
    def without(self) -> float:
        """The same without it."""
        return statistics.median(each.without for each in self.rounds)

    @property
    def ratio(self) -> float:
        """Beside / without."""
        return statistics.median(each.beside / each.without for each in self.rounds)

    @property
    def pause(self) -> float:
        """The longest of a round, in ms."""
        return statistics.median(each.pause_ms for each in self.rounds)

    @property
    def peak(self) -> float:
        """The most that the process had more during a round, in MiB."""
        return max(each.peak_mib for each in self.rounds)


class Bench:
    """The server under attack."""

    def __init__(self, edge: Sidecar, listen: str, folder: Path) -> None:
        self._edge = edge
        self._listen = listen
        self._folder = folder

    async def measure(self, name: str) -> Outcome:
        """Without and beside, alternating."""
        before, rounds, chunks = self._resident(), [], 0
        for number in range(_ROUNDS):
            without = await self.healthy() if number % 2 == 0 else 0.0
            base = self._resident()
            with probing(self._edge.server.pid, self._edge.admin) as probe:
                target = self._listen if ATTACKS[name].of_server else self._edge.target
                sent, beside = await asyncio.gather(
                    attack(name, target, _ATTACK_SECONDS, chunks, self._folder), self.healthy()
                )
            chunks += sent.chunks
            if number % 2:
                without = await self.healthy()
            rounds.append(Round(without, beside, probe.longest, probe.peak_mib - base, sent))
            self._edge.server.check()
        return Outcome(rounds, await self._settled(before) - before)

    async def _settled(self, before: float) -> float:
        """The memory of the server once what the attack has begun is over."""
        until = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        await asyncio.sleep(1.0)
        while self._resident() > before + _LITTLE and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.25)
        return self._resident()

    async def healthy(self) -> float:
        """The 99th percentile of healthy calls, in ms. Raises ProcessError if one has failed."""
        calls: list[tuple[float, dict[str, str]]] = [(n / _RATE, {}) for n in range(int(_RATE * _SECONDS))]
        samples: list[Sample] = await open_loop(
            Play(self._edge.target, _MODEL, _TIMEOUT, calls, ("rest",)), self._folder
        )
        failed = sum(not sample.answered for sample in samples)
        if failed:
            raise ProcessError(f"{failed} healthy calls of {len(samples)} had no answer.")
        return quantile((sample.ms for sample in samples), 0.99)

    def _resident(self) -> float:
        return resident_mib(self._edge.server.pid)


async def measure() -> dict[str, float]:
    """Plays every attack, prints what came of it, and returns the figures of the worst."""
    outcomes: dict[str, Outcome] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tbms-bench-")))
        upstream = await stack.enter_async_context(answerer(folder))
        listen = f"127.0.0.1:{free_port()}"
        sections: dict[str, Section] = {"server": {"listen": listen, "log": {"level": "error"}}}
        node = Node("upstream", grpc=upstream, rest=upstream)
        edge = await stack.enter_async_context(Sidecar(folder, [node], sections=sections))
        bench = Bench(edge, listen, folder)
        await bench.healthy()
        for name in ATTACKS:
            outcomes[name] = await bench.measure(name)
    _print(outcomes)
    return {
        "rss_growth_mib": max(outcome.growth for outcome in outcomes.values()),
        "longest_pause_ms": max(outcome.pause for outcome in outcomes.values()),
        "healthy_p99_ms_beside": max(outcome.beside for outcome in outcomes.values()),
        "healthy_p99_ratio": max(outcome.ratio for outcome in outcomes.values()),
    }


def _print(outcomes: dict[str, Outcome]) -> None:
    title = f"{_ROUNDS} rounds of {_SECONDS:g} s each; {_RATE:g} healthy calls/s; medians, memory the worst"
    table = Table(title=title, title_justify="left")
    table.add_column("attack", no_wrap=True)
    table.add_column("what")
    for heading in ("MiB sent", "conns", "p99 without", "beside", "ratio", "pause ms", "RSS peak", "after"):
        table.add_column(heading, justify="right")
    for name, outcome in outcomes.items():
        table.add_row(
            name,
            ATTACKS[name].what,
            f"{sum(each.sent.bytes for each in outcome.rounds) / (1 << 20):.1f}",
            str(sum(each.sent.connections for each in outcome.rounds)),
            f"{outcome.without:.1f}",
            f"{outcome.beside:.1f}",
            f"{outcome.ratio:.2f}",
            f"{outcome.pause:.1f}",
            f"{outcome.peak:.1f}",
            f"{outcome.growth:.1f}",
        )
    Console(width=140).print(table)
