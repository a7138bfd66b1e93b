"""`make bench NAME=discovery`: what a snapshot of 1,000 nodes costs, and how soon calls know of a change, by source."""

import logging
import math
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from integration.bench.discovery.joining import ByEnvoy, ByReload, Joining, joining
from integration.bench.discovery.snapshots import NODES, Snapshot, snapshots
from integration.peers.answerer import answerer
from integration.peers.ways import REAL_WAYS, WAYS, Open, Way
from integration.stack.ports import free_port, free_ports, outside_address

REPEATS = 15


@asynccontextmanager
async def _by_reload(_: Path) -> AsyncIterator[Way]:
    yield ByReload()


@asynccontextmanager
async def _by_envoy(folder: Path) -> AsyncIterator[Way]:
    way = ByEnvoy(folder / "endpoints")
    way.endpoints.mkdir()
    yield way


_OURS: dict[str, Open] = {"static": _by_reload, "envoy": _by_envoy}
_STAND_INS = {"kubernetes", "consul", "kuma"}  # of these `WAYS` has small servers that stand for them
_NOT_OF_LOOPBACK = {"kubernetes"}  # whose real one takes no node at an address of the loopback


async def measure() -> dict[str, float]:
    """Runs every case, prints two tables, and returns the figures."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # stand-ins whose clients leave in the middle
    costs = await snapshots()
    times = []
    with tempfile.TemporaryDirectory(prefix="tbms-bench-") as name:
        folder = Path(name)
        (folder / "stays").mkdir()
        (folder / "comes").mkdir()
        host, port = outside_address(), free_port()
        comes = [f"127.0.0.{number + 2}:{port}" for number in range(REPEATS)]
        outside = [] if host is None else [f"{host}:{each}" for each in free_ports(REPEATS + 1)]
        async with (
            answerer(folder / "stays", also=outside[:1]) as stays,
            answerer(folder / "comes", also=[*comes, *outside[1:]]),
        ):
            for kind, way in {**_OURS, **WAYS}.items():
                found = await _measured(kind, way, [stays, *comes], outside, folder)
                if found is not None:
                    times.append(found)
    _print(costs, times)
    return {
        "snapshot_ms_1000_nodes": max(cost.ms for cost in costs),
        "one_change_ms_1000_nodes": max(cost.change_ms for cost in costs),
        "change_to_traffic_p99_s": max(p99(each.joins) for each in times),
        "change_to_silence_p99_s": max(p99(each.leaves) for each in times),
    }


async def _measured(kind: str, way: Open, here: list[str], outside: list[str], folder: Path) -> Joining | None:
    """The real service where it is there; None where there is neither that nor one that stands for it. The endpoints,
    that of the node that stays before those of the others, are of the loopback (`here`) or of this machine's address.
    """
    choices = [(f"{kind}, a stand-in" if kind in _STAND_INS else kind, way, here)]
    of_real = outside if kind in _NOT_OF_LOOPBACK else here
    if kind in REAL_WAYS and of_real:
        choices.insert(0, (f"{kind}, a real one", REAL_WAYS[kind], of_real))
    for name, chosen, (stays, *comes) in choices:
        place = folder / name.replace(", ", "-").replace(" ", "-")
        place.mkdir()
        try:
            async with chosen(place) as opened:
                return await joining(name, opened, stays, comes, place)
        except FileNotFoundError as error:
            print(f"{name}: {error}")
    return None


def p99(values: list[float]) -> float:
    """By the nearest rank; of so few it is the longest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def _print(costs: list[Snapshot], times: list[Joining]) -> None:
    console = Console(width=120)
    table = Table(title=f"A snapshot of {NODES:,} nodes, CPU of one core, medians", title_justify="left")
    for heading in ("source", "KiB", "read ms", "applied ms", "in all ms", "one left, ms"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for cost in costs:
        table.add_row(
            cost.source,
            f"{cost.kib:.0f}",
            *(f"{ms:.1f}" for ms in (cost.read_ms, cost.applied_ms, cost.ms, cost.change_ms)),
        )
    console.print(table)
    table = Table(title=f"From a change to calls, seconds, {REPEATS} times each", title_justify="left")
    for heading in ("source", "join p50", "join p99", "leave p50", "leave p99"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for each in times:
        figures = (_p50(each.joins), p99(each.joins), _p50(each.leaves), p99(each.leaves))
        table.add_row(each.source, *(f"{figure:.2f}" for figure in figures))
    console.print(table)


def _p50(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]
