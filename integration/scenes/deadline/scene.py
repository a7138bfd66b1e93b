"""The scene of the time broker: the same images under ever shorter limits, with and without backups.

The node of the two best models is slow, as a busy one is. The other two answer in the time that they really take.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc.aio
from rich.console import Console
from rich.table import Table

from integration.scenes.deadline.calls import IMAGES_A_CALL, Caller, Point
from integration.scenes.deadline.plot import draw
from integration.stack import models, race_log
from integration.stack.embedded import NodeSpec
from integration.stack.sidecar import Section
from integration.stack.stack import Stack
from mesh.model_server.repository import KNOBS_FILE

LIMITS = (200.0, 120.0, 80.0, 60.0, 45.0, 30.0, 20.0, 15.0, 10.0, 5.0)
_TENANT = models.TENANTS[0]
# What is added to an inference on the slow node: medians in ms of log-normal distributions.
_SLOW = {"forest": 45.0, "svm": 12.0}
_SIGMA = 0.45
# What a client would declare that knows its models in good times.
_ESTIMATES = {"forest": 50.0, "svm": 15.0, "bayes": 5.0, "centroid": 5.0}
# Clients, Envoy, server and nodes share one machine, which is a long way back for an answer (integration/README.md).
_SECTIONS: Mapping[str, Section] = {"routing": {"replicas": 1}, "broker": {"margin_ms": 10}}


class Deadline:
    """Plays the scene under each of `limits` (ms), with `calls` calls each; leaves its files in `folder`."""

    def __init__(
        self, console: Console, folder: Path, limits: Sequence[float] = LIMITS, calls: int | None = None
    ) -> None:
        self._console = console
        self._limits = limits
        self._calls = len(models.digits()[1].images) // IMAGES_A_CALL if calls is None else calls
        self.plot = folder / "deadline.png"
        self.races = folder / "races.jsonl"

    async def run(self, repository: Path) -> list[Point]:
        """Plays it with the models of `repository`; prints the table, draws the plot, keeps the races."""
        with tempfile.TemporaryDirectory(prefix="tbms-") as name:
            nodes = _slowed(repository, Path(name))
            async with (
                Stack(Path(name), nodes, sections=_SECTIONS) as stack,
                grpc.aio.insecure_channel(stack.edge.target) as channel,
            ):
                points = await self._play(channel)
                self.races.parent.mkdir(parents=True, exist_ok=True)
                self.races.write_text("".join(race_log.race_lines(stack.edge.server.log)))
        _add_work(points, self.races)
        self._console.print(_table(points))
        names = {models.model_name(_TENANT, kind): kind for kind in models.KINDS}
        await asyncio.to_thread(draw, points, names, self.plot)
        self._console.print(f"The plot of it: {_shown(self.plot)}", highlight=False)
        replay = f"tbms replay {_shown(self.races)} --limit-ms 50"
        self._console.print(f"What would another limit have come to? {replay}", highlight=False, soft_wrap=True)
        return points

    async def _play(self, channel: grpc.aio.Channel) -> list[Point]:
        declared = {models.model_name(_TENANT, kind): _ESTIMATES[kind] for kind in models.KINDS}
        caller = Caller(channel, declared)
        points = []
        with self._console.status("Warming up ...") as status:
            await caller.warm_up()
            for limit in self._limits:
                for backups in (True, False):
                    how = "with" if backups else "without"
                    status.update(f"{self._calls} calls with a limit of {limit:g} ms, {how} backups ...")
                    points.append(await caller.point(limit, backups=backups, calls=self._calls))
        return points


def _slowed(repository: Path, place: Path) -> list[NodeSpec]:
    """One tenant's models, copied to `place`, on two nodes of which one is slow."""
    for kind in models.KINDS:
        name = models.model_name(_TENANT, kind)
        shutil.copytree(repository / name, place / name)
        if kind in _SLOW:
            knobs = {"delay_ms": _SLOW[kind], "delay_sigma": _SIGMA}
            (place / name / KNOBS_FILE).write_text(json.dumps(knobs))
    names = {kind: models.model_name(_TENANT, kind) for kind in models.KINDS}
    slow = frozenset(names[kind] for kind in _SLOW)
    return [NodeSpec("node-slow", models=slow), NodeSpec("node-well", models=frozenset(names.values()) - slow)]


def _add_work(points: Sequence[Point], races: Path) -> None:
    records = race_log.records(races)
    for point in points:
        mine = [r for r in records if r.limit_ms == point.limit_ms and (len(r.candidates) > 1) == point.backups]
        point.extra_work = race_log.extra_work(mine)


def _table(points: Sequence[Point]) -> Table:
    slow = " and ".join(f"the {kind}'s {ms:g} ms" for kind, ms in _SLOW.items())
    title = f"{points[0].images} images a limit; a slow node adds {slow} (medians) to each answer"
    table = Table(title=title, title_justify="left")
    for heading in ("limit, ms", "answered alone", "with backups", *(f"by {kind}" for kind in models.KINDS)):
        table.add_column(heading, justify="right")
    for heading in ("images right alone", "with backups", "extra work"):
        table.add_column(heading, justify="right")
    alone = {point.limit_ms: point for point in points if not point.backups}
    for point in points:
        if point.backups:
            other = alone[point.limit_ms]
            table.add_row(
                f"{point.limit_ms:g}",
                f"{other.answered:.0%}",
                f"[bold]{point.answered:.0%}[/bold]",
                *(str(point.by_model[models.model_name(_TENANT, kind)] or "") for kind in models.KINDS),
                f"{other.accuracy:.1%}",
                f"[bold]{point.accuracy:.1%}[/bold]",
                f"{point.extra_work:.0%}",
            )
    return table


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
