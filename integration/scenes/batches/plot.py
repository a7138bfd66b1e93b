"""The picture of the batches' scene: what more clients get, and how long they wait for it."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from integration.scenes.batches.clients import Point
from integration.scenes.frame import TEXT, frame

_TOGETHER, _ALONE = "#1f4e79", "#c8553d"


def draw(points: Sequence[Point], file: Path) -> None:
    """Draws the points as a PNG that is readable 800 pixels wide."""
    figure = Figure(figsize=(8, 5.4), dpi=200, layout="constrained")
    figure.suptitle("One model, ever more clients, with and without batches", fontsize=13, color=TEXT)
    rates, waits = figure.subplots(2, 1, sharex=True)
    clients = sorted({point.clients for point in points})
    for batches, colour, label in ((True, _TOGETHER, "in batches"), (False, _ALONE, "one by one")):
        line = sorted((point for point in points if point.batches is batches), key=lambda point: point.clients)
        at = [point.clients for point in line]
        rates.plot(at, [point.rate for point in line], color=colour, linewidth=2.2, marker="o", label=label)
        waits.plot(at, [point.median_ms for point in line], color=colour, linewidth=2.2, marker="o", label="median")
        waits.fill_between(
            at, [point.median_ms for point in line], [point.p99_ms for point in line], color=colour, alpha=0.18
        )
    frame(rates, "images read a second")
    rates.set_ylim(bottom=0)
    rates.legend(loc="upper left", fontsize=9, framealpha=0.92, edgecolor="none")
    frame(waits, "ms a call\n(median to 99th percentile)")
    waits.set_yscale("log")
    waits.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    waits.set_xscale("log", base=2)
    waits.xaxis.set_major_locator(FixedLocator(clients))
    waits.xaxis.set_minor_locator(NullLocator())
    waits.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    waits.set_xlabel("clients, each waiting for its answer before it asks again", color=TEXT)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
