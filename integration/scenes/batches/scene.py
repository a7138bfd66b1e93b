"""The scene of batches: ever more clients of one model, whose calls go one by one, and then in batches."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
from rich.console import Console
from rich.table import Table

from integration.scenes.batches import network
from integration.scenes.batches.clients import Point, point
from integration.scenes.batches.plot import draw
from integration.stack.cached_node import CachedNode, CachedSpec

CLIENTS = (1, 2, 4, 8, 16, 32)
_MAX_ROWS = 32


class Batches:
    """Plays the scene with each number of `clients`, `seconds` each; leaves its picture in `folder`."""

    def __init__(self, console: Console, folder: Path, clients: Sequence[int] = CLIENTS, seconds: float = 1.5) -> None:
        self._console = console
        self._clients = clients
        self._seconds = seconds
        self.plot = folder / "batches.png"

    async def run(self) -> list[Point]:
        """Plays it; prints the table and draws the plot."""
        with tempfile.TemporaryDirectory(prefix="tbms-") as name:
            shelf = Path(name) / "shelf"
            await asyncio.to_thread(network.write, shelf)
            # Calls share where they ask for it; the others pass to the model server as they come.
            spec = CachedSpec("node", batching={"default": {"max_rows": _MAX_ROWS}})
            async with (
                CachedNode(spec, shelf, Path(name) / "node") as node,
                grpc.aio.insecure_channel(node.agent.target) as channel,
            ):
                await point(channel, network.NAME, 1, batches=False, seconds=0.2)  # loads it
                points = [
                    await point(channel, network.NAME, clients, batches=batches, seconds=self._seconds)
                    for clients in self._clients
                    for batches in (False, True)
                ]
        self._console.print(_table(points))
        await asyncio.to_thread(draw, points, self.plot)
        self._console.print(f"The plot of it: {_shown(self.plot)}", highlight=False)
        return points


def _table(points: Sequence[Point]) -> Table:
    table = Table(title="One model, ever more clients. Images a second, and ms a call (median, 99th percentile).")
    for column in ("clients", "one by one", "median", "p99", "in batches", "median", "p99", "read rightly"):
        table.add_column(column, justify="right")
    for clients in sorted({one.clients for one in points}):
        alone, together = (
            next(one for one in points if one.clients == clients and one.batches is batches)
            for batches in (False, True)
        )
        right = (alone.right + together.right) / (len(alone.milliseconds) + len(together.milliseconds))
        cells = [f"{value:.0f}" for one in (alone, together) for value in (one.rate, one.median_ms, one.p99_ms)]
        table.add_row(f"{clients}", *cells, f"{right:.1%}")
    return table


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
