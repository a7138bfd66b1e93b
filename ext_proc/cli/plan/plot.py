"""The picture of a plan: lag against calls a second, and against GPUs."""

from collections.abc import Sequence
from math import inf
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ext_proc.planning.plan import TAIL, Operation, Plan

# On a ground of its own, so that the picture reads the same on a light page and on a dark one.
_GROUND, _TEXT, _GRID = "#ffffff", "#333333", "#dddddd"
_EVEN, _MEAN, _TAIL, _LIMIT = "#2e86ab", "#1f4e79", "#c8553d", "#8a7f72"


def draw(plan: Plan, file: Path) -> None:
    """Draws the plan as a PNG that is readable 800 pixels wide."""
    wishes = plan.wishes
    panels = 2 if plan.by_gpus else 1
    figure = Figure(figsize=(4.5 * panels, 3.9), dpi=200, layout="constrained", facecolor=_GROUND)
    axes = figure.subplots(1, panels, squeeze=False, width_ratios=(3, 2)[:panels])[0]
    gpus = "1 GPU" if wishes.gpus == 1 else f"{wishes.gpus} GPUs"
    qps = [each.load.qps for each in plan.by_qps]
    _lags(axes[0], qps, plan.by_qps, f"{gpus}: at most {plan.capacity:.4g} QPS", "calls a second (QPS)", plan)
    axes[0].axvline(plan.capacity, color=_LIMIT, linewidth=1.4, linestyle=":")
    axes[0].set_xlim(0, 1.04 * plan.capacity)
    if plan.knee is not None:
        at, lag = plan.knee.load.qps, plan.knee.mean * 1e3
        axes[0].plot(
            [at], [lag], "o", markersize=10, markerfacecolor="none", markeredgecolor=_MEAN, markeredgewidth=1.6
        )
        axes[0].annotate("knee", (at, lag), (0, 9), textcoords="offset points", ha="center", color=_MEAN, fontsize=9)
    axes[0].legend(loc="upper left", fontsize=8.5, framealpha=0.92, edgecolor="none", labelcolor=_TEXT)
    if plan.by_gpus:
        counts = [each.load.gpus for each in plan.by_gpus]
        _lags(axes[1], counts, plan.by_gpus, f"{wishes.qps:g} QPS", "GPUs", plan)
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(file, format="png", facecolor=_GROUND)


def _lags(axes: Axes, xs: Sequence[float], operations: Sequence[Operation], title: str, label: str, plan: Plan) -> None:
    lines = (
        ([each.even for each in operations], _EVEN, "evenly spaced", "-"),
        ([each.mean for each in operations], _MEAN, "Poisson, mean", "-"),
        ([each.tail for each in operations], _TAIL, f"Poisson, {TAIL:.0%} of calls", "-"),
    )
    for lags, colour, name, style in lines:
        kept = [(x, lag * 1e3) for x, lag in zip(xs, lags, strict=True) if lag < inf]
        axes.plot(*zip(*kept, strict=True), style, color=colour, linewidth=2, marker="o", markersize=4, label=name)
    if plan.wishes.lag is not None:
        axes.axhline(plan.wishes.lag * 1e3, color=_LIMIT, linewidth=1.4, linestyle="--", label="lag limit")
    axes.set_title(title, fontsize=10.5, color=_TEXT)
    axes.set_xlabel(label, color=_TEXT)
    axes.set_ylabel("lag, ms", color=_TEXT)
    axes.set_ylim(bottom=0)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_TEXT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
