"""The picture of the deadline scene: who answered, what the answers were worth, and what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from integration.scenes.deadline.calls import Point
from integration.scenes.frame import TEXT, frame

# From the best model to the roughest.
_COLOURS = ("#1f4e79", "#2e86ab", "#7fb7be", "#cfe3dc")
_ALONE = "#c8553d"
_BACKED = "#1f4e79"
_WORK = "#8a7f72"


def draw(points: Sequence[Point], models: Mapping[str, str], file: Path) -> None:
    """Draws the points, with and without backups, as a PNG that is readable 800 pixels wide.

    `models`: how each is called in the picture, the best first.
    """
    backed = sorted((point for point in points if point.backups), key=lambda point: point.limit_ms)
    alone = sorted((point for point in points if not point.backups), key=lambda point: point.limit_ms)
    figure = Figure(figsize=(8, 7.2), dpi=200, layout="constrained")
    figure.suptitle("The same images under ever shorter time limits, one node slow", fontsize=13, color=TEXT)
    answered, accuracy, work = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1.3))
    limits = [point.limit_ms for point in backed]
    shares = [[point.by_model[model] / point.calls for point in backed] for model in models]
    primary, *_ = models.values()
    labels = [f"with backups, by {called}" for called in models.values()]
    answered.stackplot(limits, shares, labels=labels, colors=_COLOURS, linewidth=0)
    _line(answered, limits, alone, "answered", _ALONE, f"without backups ({primary} alone)")
    _frame(answered, "answered by the limit")
    answered.legend(loc="lower right", fontsize=8.5, framealpha=0.92, edgecolor="none")
    _line(accuracy, limits, backed, "accuracy", _BACKED, "with backups")
    _line(accuracy, limits, alone, "accuracy", _ALONE, "without backups")
    _frame(accuracy, "images read rightly")
    accuracy.legend(loc="lower right", fontsize=8.5, framealpha=0.92, edgecolor="none")
    work.plot(limits, [point.extra_work for point in backed], color=_WORK, linewidth=2.2, marker="o", markersize=4.5)
    work.fill_between(limits, [point.extra_work for point in backed], color=_WORK, alpha=0.18, linewidth=0)
    _frame(work, "work of backups\n/ of the primary")
    work.set_ylim(0, max(0.25, 1.1 * max(point.extra_work for point in backed)))
    work.set_xscale("log")
    work.xaxis.set_major_locator(FixedLocator(limits))
    work.xaxis.set_minor_locator(NullLocator())
    work.xaxis.set_major_formatter(FuncFormatter(lambda limit, _: f"{limit:g}"))
    work.set_xlim(0.95 * min(limits), 1.05 * max(limits))
    work.set_xlabel("tloc, ms", color=TEXT)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def _line(axes: Axes, limits: Sequence[float], points: Sequence[Point], what: str, colour: str, label: str) -> None:
    values = [getattr(point, what) for point in points]
    axes.plot(limits, values, color=colour, linewidth=2.2, marker="o", markersize=4.5, label=label)


def _frame(axes: Axes, title: str) -> None:
    frame(axes, title)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
